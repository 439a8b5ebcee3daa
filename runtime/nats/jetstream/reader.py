"""One read over a part of a stream, in order and in bounded memory, by short-lived consumers."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

import msgspec

from runtime.errors import ActorError
from runtime.nats.connection import Connection, Subscription
from runtime.nats.jetstream.api import API
from runtime.nats.jetstream.configs import SECOND, ConsumerConfig
from runtime.nats.jetstream.delivery import ack_fields
from runtime.nats.jetstream.responses import ConsumerInfo, StoredMessage

_AHEAD: Final = 1024
"""Messages that are requested or have arrived, at most. Another request is sent when half of them are left."""

_INACTIVE: Final = 30 * SECOND
"""Nanoseconds after which the server deletes a consumer whose reader ended without deleting it."""

_PAUSE: Final = 0.05
"""Seconds between two passes if the first one ended early."""


class StreamApi(Protocol):
    """The part of `JetStream` that a read uses: two attributes and three calls."""

    @property
    def connection(self) -> Connection: ...
    @property
    def timeout(self) -> float:
        """Default timeout of a call, in seconds."""
        ...

    async def get_last(self, stream: str, subject: str, timeout: float | None = None) -> StoredMessage | None: ...
    async def ensure_consumer(
        self, stream: str, config: ConsumerConfig, timeout: float | None = None
    ) -> ConsumerInfo: ...
    async def delete_consumer(self, stream: str, consumer: str, timeout: float | None = None) -> None: ...


async def read(
    jetstream: StreamApi, stream: str, subject_filter: str, start: int, last_per_subject: bool
) -> AsyncIterator[StoredMessage]:
    """Iterate over messages of a stream; see `JetStream.read`.

    Each pass creates a consumer and pulls from it until it has no more messages or a delivery is missing. Passes follow
    until one has seen the message that was the last one at the leader. That message is read from the leader, because a
    consumer's count of pending messages is not reliable: the consumer may be on a follower that is behind. After each
    pass it is read again, because it may have expired.
    """
    loop = asyncio.get_running_loop()
    last = await jetstream.get_last(stream, subject_filter)
    end = 0 if last is None else last.sequence
    seen = start - 1
    silent_since = loop.time()
    while last is not None and last.sequence > seen:
        async with Pass(jetstream, stream, _config(subject_filter, seen + 1, last_per_subject)) as messages:
            async for stored in messages:
                if stored.sequence > seen:
                    seen = stored.sequence
                    yield stored
                    silent_since = loop.time()
                    if seen >= end:
                        return
        last = await jetstream.get_last(stream, subject_filter)
        if last is not None and last.sequence > seen and loop.time() - silent_since > jetstream.timeout:
            raise TimeoutError(
                f"stream {stream}: no message on {subject_filter} arrived after sequence {seen} of {end}"
            )
        await asyncio.sleep(_PAUSE if last is not None and last.sequence > seen else 0)


def _config(subject_filter: str, start: int, last_per_subject: bool) -> ConsumerConfig:
    return ConsumerConfig(
        durable=f"read-{secrets.token_hex(8)}",
        filter_subjects=(subject_filter,),
        deliver_policy="last_per_subject" if last_per_subject else "by_start_sequence",
        opt_start_seq=msgspec.UNSET if last_per_subject else start,
        ack_policy="none",
        inactive_threshold=_INACTIVE,
        num_replicas=1,
        mem_storage=True,
    )


class Pass:
    """One consumer, pulled until it has no more messages or a delivery is missing. Use it as an async context manager.

    Args:
        jetstream: The client.
        stream: The name of the stream.
        config: The configuration of the consumer, which the server does not wait for acknowledgements of.
        ahead: The most messages that are requested or have arrived and are not taken.
    """

    def __init__(self, jetstream: StreamApi, stream: str, config: ConsumerConfig, ahead: int = _AHEAD) -> None:
        self._jetstream = jetstream
        self._stream = stream
        self._config = config
        self._ahead = ahead
        self._inbox = f"{jetstream.connection.options.inbox_prefix}.{secrets.token_hex(11)}"
        self._arrived: deque[StoredMessage | None] = deque()
        self._wake = asyncio.Event()
        self._requested = 0
        self._expected = 1
        self._has_more = True
        self._behind = True
        """Whether more messages waited on the server at the last delivery, or at the start."""
        self._patience = jetstream.timeout
        """Seconds of silence after which the pass ends."""
        self._times: dict[str, Any] = {"expires": int(jetstream.timeout * SECOND)}
        """The durations of a pull request."""
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> AsyncIterator[StoredMessage]:
        self._has_more = await self._create()
        self._subscription = await self._jetstream.connection.subscribe(self._inbox, self._receive)
        self._jetstream.connection.on_reconnect.append(self._end)
        return self._messages()

    async def __aexit__(self, *_: object) -> None:
        if self._subscription is not None:
            self._jetstream.connection.on_reconnect.remove(self._end)
            self._subscription.unsubscribe()
        try:
            await self._jetstream.delete_consumer(self._stream, self._config.durable, timeout=1.0)
        except (ActorError, TimeoutError):
            # The server deletes an inactive consumer itself.
            return

    async def _create(self) -> bool:
        """Create the consumer. Return whether it has messages."""
        info = await self._jetstream.ensure_consumer(self._stream, self._config)
        return info.num_pending > 0

    async def _messages(self) -> AsyncIterator[StoredMessage]:
        while self._has_more or self._arrived:
            if self._requested + len(self._arrived) <= self._ahead // 2:
                self._pull()
            if not self._arrived:
                self._wake.clear()
                try:
                    # Not `wait_for`: it swallows a cancellation that comes together with a message.
                    async with asyncio.timeout(self._patience):
                        await self._wake.wait()
                except TimeoutError:
                    return
                continue
            stored = self._arrived.popleft()
            if stored is None:
                return
            yield stored

    def _pull(self) -> None:
        batch = self._ahead - self._requested - len(self._arrived)
        self._jetstream.connection.publish(
            f"{API}CONSUMER.MSG.NEXT.{self._stream}.{self._config.durable}",
            msgspec.json.encode({"batch": batch, **self._times}),
            reply=self._inbox.encode(),
        )
        self._requested += batch

    def _end(self) -> None:
        """End this pass; the next one continues after the last message seen. Its requests may be lost with the connection."""
        self._arrived.append(None)
        self._wake.set()

    def _receive(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        if not reply.startswith(b"$JS.ACK."):
            self._receive_status(headers)
            return
        _, sequence, consumer_sequence, time, pending = ack_fields(reply)
        if int(consumer_sequence) != self._expected:
            self._end()
            return
        self._wake.set()
        self._expected += 1
        self._requested -= 1
        self._has_more = self._behind = pending != b"0"
        text = subject.decode("utf-8", "backslashreplace")  # the server accepts subjects that are not UTF-8
        self._arrived.append(StoredMessage(text, int(sequence), headers, payload, int(time) / SECOND))

    def _receive_status(self, headers: bytes | None) -> None:
        """Receive a status: the request has expired, or the consumer or its server is gone."""
        self._end()
