"""A pass over a stream that does not end with its messages: it waits for those that are stored later."""

import secrets
from typing import Final

import msgspec

from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import SECOND, ConsumerConfig
from runtime.nats.jetstream.reader import Pass
from runtime.nats.jetstream.statuses import EXPIRED, HEARTBEAT
from runtime.wire import header_block

AHEAD: Final = 64
"""Messages that are pulled and not taken yet, at most."""

_INACTIVE: Final = 30
"""Seconds without a pull request after which the server deletes a consumer that its follower has left behind."""

_EXPIRES: Final = 30
"""Seconds after which a pull request expires on the server. Another one follows."""

_HEARTBEAT: Final = 5
"""Seconds between two heartbeats of the server while a pull request is open."""

_SILENCE: Final = 15
"""Seconds of silence after which the consumer counts as gone: three heartbeats."""


class Following(Pass):
    """Pulls from a consumer of its own until a delivery is missing, or the consumer, its server or the connection is gone.

    The messages come in the order of the stream. The caller begins another pass after the last message that it has taken.
    The consumer is deleted at the end of the pass.

    Args:
        jetstream: The client.
        stream: The name of the stream.
        subjects: Subjects that do not overlap; wildcards are allowed.
        sequence: The stream sequence after which the pass begins; None to begin at `time`.
        time: A time in RFC 3339. The pass begins with the first message that was stored then or later.
    """

    def __init__(
        self, jetstream: JetStream, stream: str, subjects: tuple[str, ...], sequence: int | None, time: str | None
    ) -> None:
        self._client = jetstream
        config = ConsumerConfig(
            durable=f"follow-{secrets.token_hex(8)}",
            filter_subjects=subjects,
            deliver_policy="by_start_time" if sequence is None else "by_start_sequence",
            opt_start_seq=msgspec.UNSET if sequence is None else sequence + 1,
            opt_start_time=time if sequence is None and time is not None else msgspec.UNSET,
            ack_policy="none",
            inactive_threshold=_INACTIVE * SECOND,
            num_replicas=1,
            mem_storage=True,
        )
        super().__init__(jetstream, stream, config, AHEAD)
        self._patience = _SILENCE
        self.skipped: int | None = None
        """The sequence before the first jump to a later one while more messages waited on the server. In between are messages
        that no filter lets pass, or that the stream has removed. The caller sets it back."""
        self._newest = 0
        """The sequence of the last delivery."""
        self._times = {"expires": _EXPIRES * SECOND, "idle_heartbeat": _HEARTBEAT * SECOND}

    async def _create(self) -> bool:
        info = await self._client.create_consumer(self._stream, msgspec.to_builtins(self._config))
        self._behind = info.num_pending > 0
        return True

    @property
    def is_caught_up(self) -> bool:
        """Whether all messages were taken that the server had at the last delivery."""
        return not self._behind and not self._arrived

    def _receive(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        behind = self._behind
        super()._receive(subject, reply, headers, payload)
        self._has_more = True
        newest = self._arrived[-1] if self._arrived else None
        if newest is not None:
            if behind and self.skipped is None and newest.sequence > self._newest + 1 > 1:
                self.skipped = self._newest
            self._newest = newest.sequence
            # Without an open request, more messages may be stored before the next one.
            self._behind = self._behind or self._requested <= 0

    async def __aexit__(self, *_: object) -> None:
        self._behind = True  # Nobody knows from now on.
        await super().__aexit__()

    def _receive_status(self, headers: bytes | None) -> None:
        status = header_block.status(headers)
        if status == HEARTBEAT:
            last = header_block.get(headers, b"Nats-Last-Consumer")
            if last is not None and int(last) != self._expected - 1:
                self._end()  # the last delivery is missing
            else:
                self._behind = False  # A request is open, and no message waits for it.
        elif status in EXPIRED:
            unserved = header_block.get(headers, b"Nats-Pending-Messages")
            self._requested -= int(unserved) if unserved else self._requested
        else:
            self._end()  # 409: deleted, leader changed, server stops; 503: no consumer
        self._wake.set()
