"""Durable consumer positions, read by the next owner of a consumer (ADR 012).

A position lives in the actor's own turns stream, one message for each consumer. It answers two questions that the server
cannot answer:

- Where does a consumer continue that somebody deleted? A new consumer would begin at the start of its stream, with events
  older than the ids that the actor remembers, and would handle them a second time. It begins after the saved floor instead.
- Did earlier owners crash on an event that they had in flight? A new owner resets its consumer (ADR 005), and the server
  then forgets how often it has delivered each event. So the number of crashes in a row is kept here.

While poison-message candidates run alone, each has a second message, which counts its attempts.
"""

import logging
from collections.abc import Callable

import msgspec

from runtime.nats.jetstream.client import JetStream
from runtime.wire import header_block
from runtime.wire.codec import UNDECODABLE
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.storage")


class ConsumerPosition(msgspec.Struct, frozen=True):
    """The progress of one consumer at the time of the last look, and its owner."""

    stream_created: str
    """The creation time of the stream, as the server prints it: a stream that was created again has another."""
    created: str
    """The creation time of the consumer, as the server prints it."""
    floor: int
    """The stream sequence up to which every event is acknowledged."""
    owner: str = ""
    """The process that owns this consumer, or owned it when it crashed. Empty for shared consumers and after a clean shutdown."""
    crashes: int = 0
    """The number of owners in a row that crashed before the events were done that the first of them had in flight."""
    last_in_flight: int = 0
    """The last stream sequence that the first of these owners had in flight; 0 without a crash."""


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
        stored = await self._jetstream.get_last(self._names.turns_stream, self._names.position(stream, durable))
        if stored is None:
            return None
        try:
            position = msgspec.json.decode(stored.payload, type=ConsumerPosition)
        except UNDECODABLE as error:
            logger.error("%s is not a consumer position: %s", stored.subject, error)
            return None
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
