"""Commands by `tell` that their actor does not take now: they are parked in the turns stream of the sender, so that nothing waits for them.

An actor that has never run has no stream of tells, and another one may refuse them. In its outbox, such a command would hold back the
events of its key. So the relay stores it on ``<actor>.parked.<key>.<target>.<id>`` instead, and the next entry of the key
follows. While any command to an actor is parked, all further ones to it are parked behind it, so they stay in their order.

Every few seconds, the owner of the checkpoint sends the parked commands on, in the order of the stream. Each is deleted when the
stream of its target has stored it. A crash in between sends it again under the same id, which has no further effect.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

from runtime.errors import ActorError, PublishError
from runtime.faults import error_text
from runtime.nats.errors import PermissionDenied
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import DuplicateInProcess, NoStream
from runtime.nats.jetstream.responses import StoredMessage, StreamInfo
from runtime.storage.record import TELL, Outgoing
from runtime.wire import header_block
from runtime.wire.subjects import Names
from runtime.wire.tokens import token_of

logger = logging.getLogger("actorloom.storage")

_PAUSE: Final = 5.0
"""Seconds between two attempts to send parked commands on."""

_SUBJECT: Final = b"Actorloom-Tell"
"""The header of a parked command with its own subject."""
_OWN: Final = tuple(each + b":" for each in (_SUBJECT, header_block.EXPECTED_SEQUENCE, header_block.TIMER_TURN))
"""The beginnings of the headers that only a stored one has."""


class ParkedTells:
    """The parked commands of one actor.

    Args:
        jetstream: The client.
        names: The names of the actor.
        owns: Returns whether this process owns the checkpoint, and its lease holds by the clock.
        shared: Whether other processes park tells in the same stream.
    """

    def __init__(self, jetstream: JetStream, names: Names, owns: Callable[[], bool], shared: bool) -> None:
        self._jetstream = jetstream
        self._names = names
        self._owns = owns
        self._loop = asyncio.get_running_loop()
        self.targets: dict[str, str] = {}
        """The actors whose commands are parked, each with the reason."""
        self._begun: Counter[str] = Counter()
        """By target, the commands that this process has begun to park."""
        self._ended: Counter[str] = Counter()
        """Those of them that are parked, or not."""
        self._sending: asyncio.Task[None] | None = None
        self._ready = shared
        """Whether the outboxes of former owners are published, so that nothing of them can come behind what is sent on."""

    @property
    def warnings(self) -> list[str]:
        """The actors whose commands wait, with the reasons."""
        return [f"the commands that {target} is told wait: {reason}" for target, reason in self.targets.items()]

    def find(self, info: StreamInfo) -> None:
        """Take note of the commands that others have parked. `info` has the number of messages of each subject of parked commands."""
        for subject in info.state.subjects or {}:
            self.targets.setdefault(subject.split(".")[-2], "it has not taken them yet")
        self._start()

    def start(self) -> None:
        """Begin to send parked commands on: the outboxes of former owners are published."""
        self._ready = True
        self._start()

    def refuse(self, entry: Outgoing, error: Exception) -> bool:
        """Take note that a publish has failed. Return whether its entry is a command that is parked from now on."""
        if entry.kind is not TELL or entry.target in self.targets or not _is_refusal(error):
            return False
        logger.error(
            "%s: the commands that %s is told wait, and are sent again every %.0f s: %s",
            self._names.actor, entry.target, _PAUSE, error_text(error),
        )  # fmt: skip
        self.targets[entry.target] = error_text(error)
        self._start()
        return True

    def begin(self, token: str, entry: Outgoing, subject: str, headers: bytes) -> tuple[str, bytes]:
        """Return the subject and the headers under which a command is parked. `end` must follow.

        Args:
            token: The key of the sender, as a subject token.
            entry: The command.
            subject: Its own subject.
            headers: Its own headers.
        """
        self._begun[entry.target] += 1
        # One that is parked already is this one, and keeps its place.
        lines = (header_block.line(_SUBJECT, subject.encode()), header_block.line(header_block.EXPECTED_SEQUENCE, b"0"))
        block = headers[: -len(header_block.END)] + b"".join(lines) + header_block.END
        return self._names.parked(token, entry.target, token_of(entry.id)), block

    def end(self, target: str) -> None:
        """Take note that a command is parked, or that the attempt has failed."""
        self._ended[target] += 1

    def stop(self) -> None:
        """Send nothing on any more."""
        if self._sending is not None:
            self._sending.cancel()

    def _start(self) -> None:
        if self.targets and self._ready and (self._sending is None or self._sending.done()):
            name = f"actorloom {self._names.actor} parked commands"
            self._sending = self._loop.create_task(self._send_on(), name=name)

    async def _send_on(self) -> None:
        """Send the parked commands on, until none is left."""
        while self.targets:
            for target in list(self.targets):
                try:
                    while (owned := self._owns()) and not await self._empty(target):
                        pass  # Further ones were parked meanwhile.
                except (ActorError, TimeoutError) as error:
                    self.targets[target] = error_text(error)
                    continue
                if not owned:
                    # The owner of the checkpoint sends them on. This process has no keys, whose order counts, so it tries again.
                    await asyncio.sleep(_PAUSE)
                    self.targets.clear()
                    return
                del self.targets[target]
                logger.info("%s: %s takes the commands that it is told", self._names.actor, target)
            if self.targets:
                await asyncio.sleep(_PAUSE)

    async def _empty(self, target: str) -> bool:
        """Send the parked commands to an actor on. Return whether there was none. Raises the errors of `JetStream`."""
        names, begun, empty = self._names, self._begun[target], True
        stored_all = begun == self._ended[target]
        async for stored in self._jetstream.read(names.turns_stream, names.parked("*", target, "*")):
            empty = False
            if not self._owns():
                break
            if subject := header_block.get(stored.headers, _SUBJECT):
                await self._jetstream.publish(subject, stored.payload, headers=_told_headers(stored))
            await self._jetstream.delete_message(names.turns_stream, stored.sequence)
        # The end of a read is that of the stream when it began.
        return empty and stored_all and begun == self._begun[target]


def _told_headers(stored: StoredMessage) -> bytes:
    """Return the headers of a parked command without those of its parking."""
    lines = (stored.headers or b"").split(header_block.END)[1:]
    return header_block.join(*(each + header_block.END for each in lines if each and not each.startswith(_OWN)))


def _is_refusal(error: Exception) -> bool:
    """Return whether a publish was refused for as long as nobody does something about it."""
    if isinstance(error, DuplicateInProcess):
        return False
    return isinstance(error, NoStream | PermissionDenied) or (isinstance(error, PublishError) and error.err_code != 0)
