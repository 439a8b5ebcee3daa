"""How far each consumer of an actor is, noted durably: what whoever pulls from it next must know of those before.

The notes lie in the actor's own stream of turns, one message for each consumer, and one for each event that is tried alone.
"""

import logging
from collections.abc import Callable

import msgspec

from runtime.nats.jetstream.client import JetStream
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.storage")


class Place(msgspec.Struct, frozen=True):
    """How far a consumer was when it was last looked at, and who pulled."""

    stream_created: str
    created: str
    floor: int
    """The sequence up to which all is done."""
    owner: str = ""
    """Who alone pulls, or ended without a word; empty where many do, or the last one has ended in order."""
    deaths: int = 0
    """How many owners in a row have ended without a word before all was done that the first of them had in hand."""
    until: int = 0
    """The last sequence of that; 0 where there were no deaths."""


class Places:
    """The notes of one actor. `stored` is told the sequence of each, for the account of the relay's checkpoint.

    Notes of tries expire after `remember` seconds. Its methods raise what `JetStream` does.
    """

    def __init__(self, jetstream: JetStream, names: Names, remember: float, stored: Callable[[int], None]) -> None:
        self._jetstream = jetstream
        self._names = names
        self._expires = b"NATS/1.0\r\nNats-TTL: %ds\r\n\r\n" % max(int(remember), 1)
        self._stored = stored
        self._known: dict[tuple[str, str], Place] = {}
        self._unsaved: set[tuple[str, str]] = set()

    def get(self, stream: str, durable: str) -> Place | None:
        """Return what was loaded last, or was last to be saved; nothing is read."""
        return self._known.get((stream, durable))

    async def load(self, stream: str, durable: str) -> Place | None:
        """Read the note of a consumer; None where there is none, or none that can be read."""
        stored = await self._jetstream.get_last(self._names.turns_stream, self._names.place(stream, durable))
        if stored is None:
            return None
        try:
            place = msgspec.json.decode(stored.payload, type=Place)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.error("%s is no note of a consumer's place: %s", stored.subject, error)
            return None
        self._known[stream, durable] = place
        return place

    async def save(self, stream: str, durable: str, place: Place) -> None:
        """Store the note of a consumer, where it has changed."""
        consumer = (stream, durable)
        if self._known.get(consumer) == place and consumer not in self._unsaved:
            return
        self._known[consumer] = place
        self._unsaved.add(consumer)
        ack = await self._jetstream.publish(self._names.place(stream, durable), msgspec.json.encode(place))
        self._unsaved.discard(consumer)
        self._stored(ack.sequence)

    async def tries(self, stream: str, durable: str, sequence: int) -> int:
        """Return how often the event at `sequence` is noted to have been tried."""
        subject = self._names.place(stream, durable, sequence)
        stored = await self._jetstream.get_last(self._names.turns_stream, subject)
        return int(stored.payload) if stored is not None and stored.payload.isdigit() else 0

    async def save_tries(self, stream: str, durable: str, sequence: int, tries: int) -> None:
        """Note that the event at `sequence` is about to be tried for the `tries`-th time; return when that is stored."""
        subject = self._names.place(stream, durable, sequence)
        self._stored((await self._jetstream.publish(subject, b"%d" % tries, headers=self._expires)).sequence)
