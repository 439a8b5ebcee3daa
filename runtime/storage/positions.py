"""Durable consumer positions, read by the next owner of a consumer (ADR 012).

A position lives in the actor's own turns stream, one message for each consumer. It answers two questions that the server
cannot answer:

- Where does a consumer continue that somebody deleted? A new consumer would begin at the start of its stream, with events
  older than the ids that the actor remembers, and would handle them a second time. It begins after the saved floor instead.
- Did the processes of earlier owners die, perhaps of an event? A new owner resets its consumer (ADR 005), and the server
  then forgets how often it has delivered each event. So the deaths are kept here, with the events that ran at each of them.

Three more messages belong to a position. After a death, one names the events that run. A process whose ownership ends stores
that it has survived it, unless it drains. And while a poison-message candidate of an actor without state runs alone, a
message counts its attempts.
"""

import logging
from collections.abc import Callable, Collection
from typing import TypeVar

import msgspec

from runtime.errors import PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.wire import header_block
from runtime.wire.codec import UNDECODABLE
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.storage")

_T = TypeVar("_T")

_SURVIVAL_TTL = 86_400
"""Seconds for which it is remembered that a process has survived an ownership. Every later owner reads it until then."""


class Death(msgspec.Struct, frozen=True):
    """The end of an ownership whose process has not said that it lives."""

    owner: str
    """The process."""
    ownership: int
    """The number of the ownership in this process."""
    last: int
    """The last stream sequence that was in hand."""
    charged: tuple[tuple[int, int], ...] = ()
    """The events that are known to have run, each with the attempts that this death uses."""


class Running(msgspec.Struct, frozen=True):
    """The events of one consumer whose handlers run."""

    owner: str
    """The process that owns the consumer."""
    ownership: int
    sequences: tuple[int, ...]
    """Their stream sequences."""


class ConsumerPosition(msgspec.Struct, frozen=True):
    """The progress of one consumer at the time of the last look, and its owner."""

    stream_created: str
    """The creation time of the stream, as the server prints it: a stream that was created again has another."""
    created: str
    """The creation time of the consumer, as the server prints it."""
    floor: int
    """The stream sequence up to which every event is acknowledged."""
    owner: str = ""
    """The process that owns this consumer, or owned it last. Empty for shared consumers and after a clean shutdown."""
    ownership: int = 0
    """The number of the ownership in this process."""
    deaths: tuple[Death, ...] = ()
    """The deaths of earlier owners, oldest first, until the events are done that were in hand then."""
    used: tuple[tuple[int, int], ...] = ()
    """Events that have certainly ended their process, each with the attempts that it has used; without those in `deaths`."""
    finished: tuple[int, ...] = ()
    """By bucket, the stream sequence up to which a former consumer has finished all events.

    Empty unless partitions were joined. The new consumer begins where the last of them was, and the ids of events that the
    others have finished may be forgotten already.
    """

    @property
    def last_in_hand(self) -> int:
        """The last stream sequence that was in hand at one of the deaths; 0 if there are none."""
        return max((death.last for death in self.deaths), default=0)


class Positions:
    """Loads and saves the consumer positions of one actor. Its methods raise the errors of `JetStream`.

    Args:
        jetstream: The client.
        names: The names of the actor; its turns stream holds the positions.
        remember: Seconds for which counts of attempts are kept.
        on_stored: A callback with the sequence of each message stored here. The relay's checkpoint needs it, since it
            covers every sequence of the turns stream.
    """

    def __init__(self, jetstream: JetStream, names: Names, remember: float, on_stored: Callable[[int], None]) -> None:
        self._jetstream = jetstream
        self._names = names
        self._expires = header_block.join(header_block.ttl(max(int(remember), 1)))
        self._on_stored = on_stored
        self._known: dict[tuple[str, str], ConsumerPosition] = {}
        self._unsaved: set[tuple[str, str]] = set()

    def get(self, stream: str, durable: str) -> ConsumerPosition | None:
        """Return the position that was last loaded or passed to `save`, without a request."""
        return self._known.get((stream, durable))

    async def load(self, stream: str, durable: str) -> ConsumerPosition | None:
        """Read the position of a consumer; None if there is none, or if it is unreadable."""
        position = await self._read(self._names.position(stream, durable), ConsumerPosition, "consumer position")
        if position is not None:
            self._known[stream, durable] = position
        return position

    async def save(self, stream: str, durable: str, position: ConsumerPosition) -> None:
        """Store the position of a consumer if it differs from the stored one.

        `get` returns the new position even if this raises; the next call then stores it.
        """
        consumer = (stream, durable)
        if self._known.get(consumer) == position and consumer not in self._unsaved:
            return
        self._known[consumer] = position
        self._unsaved.add(consumer)
        ack = await self._jetstream.publish(self._names.position(stream, durable), msgspec.json.encode(position))
        self._unsaved.discard(consumer)
        self._on_stored(ack.sequence)

    async def attempts(self, stream: str, durable: str, sequence: int) -> int:
        """Return the saved number of attempts of the event at `sequence`; 0 if none is saved."""
        subject = self._names.attempts(stream, durable, sequence)
        stored = await self._jetstream.get_last(self._names.turns_stream, subject)
        return (header_block.number(stored.payload) or 0) if stored is not None else 0

    async def save_attempts(self, stream: str, durable: str, sequence: int, attempts: int) -> None:
        """Store the number of attempts of the event at `sequence`, this one included, before the attempt begins."""
        subject = self._names.attempts(stream, durable, sequence)
        self._on_stored((await self._jetstream.publish(subject, b"%d" % attempts, headers=self._expires)).sequence)

    async def running(self, stream: str, durable: str) -> Running | None:
        """Return the events of a consumer that ran when an owner has stored that last; None if none has."""
        return await self._read(self._names.running(stream, durable), Running, "list of running events")

    async def save_running(self, stream: str, durable: str, running: Running) -> None:
        """Store the events of a consumer whose handlers run."""
        ack = await self._jetstream.publish(self._names.running(stream, durable), msgspec.json.encode(running))
        self._on_stored(ack.sequence)

    async def survived(self, owners: Collection[str]) -> dict[str, int]:
        """Return the number of the last ownership that each of these processes has survived; 0 if it has not said so."""
        found: dict[str, int] = {}
        for owner in owners:
            stored = await self._jetstream.get_last(self._names.turns_stream, self._names.survival(owner))
            found[owner] = (header_block.number(stored.payload) or 0) if stored is not None else 0
        return found

    def report_survival(self, owner: str, ownership: int) -> None:
        """Store that this process lives, though its ownership has ended. Does not wait for the server.

        If the connection is cut now, the message is lost. So it is sent once more after the next reconnection.
        """
        connection = self._jetstream.connection
        subject, body = self._names.survival(owner), b"%d" % ownership
        block = header_block.join(header_block.ttl(_SURVIVAL_TTL))

        def send() -> None:
            if send in connection.on_reconnect:
                connection.on_reconnect.remove(send)
            try:
                connection.publish(subject, body, headers=block)
            except PublishError as error:
                logger.info("%s: it cannot be stored that the process lives: %s", owner, error)

        send()
        connection.on_reconnect.append(send)

    def forget_attempts(self, stream: str, durable: str, sequence: int) -> None:
        """Store that the event at `sequence` has used no attempt, without waiting for the server."""
        subject = self._names.attempts(stream, durable, sequence)
        try:
            self._jetstream.connection.publish(subject, b"0", headers=self._expires)
        except PublishError as error:
            logger.info("%s: the attempts of event %d stay as they are: %s", subject, sequence, error)

    async def _read(self, subject: str, kind: type[_T], what: str) -> _T | None:
        stored = await self._jetstream.get_last(self._names.turns_stream, subject)
        if stored is None:
            return None
        try:
            return msgspec.json.decode(stored.payload, type=kind)
        except UNDECODABLE as error:
            logger.error("%s is not a %s: %s", stored.subject, what, error)
            return None
