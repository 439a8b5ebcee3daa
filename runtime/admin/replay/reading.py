"""The events of a replay, in the order in which they are sent."""

from collections.abc import AsyncIterator, Callable, Sequence
from heapq import heapify, heappop, heapreplace
from typing import NamedTuple

import msgspec

from runtime.actor.patterns import Predicate, compile_pattern
from runtime.admin.archives import event_time, origin_of
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.storage.replays import Part, Source
from runtime.wire.cloudevents import opened, received_id
from runtime.wire.codec import UNDECODABLE


class Found(NamedTuple):
    """One event of a replay."""

    source: int
    """The place of its source in `Replay.sources`."""
    part: Part
    stored: StoredMessage


def read_events(jetstream: JetStream, sources: Sequence[Source]) -> AsyncIterator[Found]:
    """Iterate over the events of all sources that are not sent yet: in the order of each stream, and by time over several."""
    return _merged([_of_stream(jetstream, number, source) for number, source in enumerate(sources)], _time)


async def first_from(jetstream: JetStream, stream: str, time: float, last: int) -> int:
    """Return a sequence at and behind which all messages of a stream are stored at `time` or later, and before it none.

    Args:
        jetstream: The client.
        stream: The name of the stream.
        time: Unix seconds.
        last: The sequence of the last message of the stream.
    """
    low, high = 1, last + 1
    while low < high:
        middle = (low + high) // 2
        stored = await jetstream.get_next(stream, ">", middle)
        if stored is None or stored.time >= time:
            high = middle
        else:
            low = stored.sequence + 1
    return min(low, last + 1)


def id_of(source: Source, stored: StoredMessage) -> str:
    """Return the id of an event, as a reaction to it finds it. An event without one is named by its place in its own stream."""
    event, _, _ = opened(stored.headers, stored.payload)
    if (found := received_id(stored.headers, event)) is not None:
        return found
    origin = None if source.window is None else origin_of(stored)
    stream, sequence = origin or (source.stream, stored.sequence)
    return f"{stream}:{sequence}"


def _of_stream(jetstream: JetStream, number: int, source: Source) -> AsyncIterator[Found]:
    return _merged([_of_part(jetstream, number, source, part) for part in source.parts], _sequence)


async def _of_part(jetstream: JetStream, number: int, source: Source, part: Part) -> AsyncIterator[Found]:
    matches = None if part.where is None else compile_pattern(part.where)
    start = max(source.first, source.done + 1)
    async for stored in jetstream.read(source.stream, part.filter, start_sequence=start):
        if stored.sequence > source.last:
            return
        if source.window is not None:
            first, end = source.window
            stored = msgspec.structs.replace(stored, time=event_time(stored))
            if not first <= stored.time < end:
                continue
        if matches is None or _matches(matches, stored):
            yield Found(number, part, stored)


def _matches(matches: Predicate, stored: StoredMessage) -> bool:
    """Return whether a pattern matches an event, or the event cannot be read: it is a dead letter of the reaction then."""
    _, payload, unreadable = opened(stored.headers, stored.payload)
    try:
        return unreadable is not None or matches(msgspec.json.decode(payload))
    except UNDECODABLE:
        return True


def _time(found: Found) -> float:
    return found.stored.time


def _sequence(found: Found) -> float:
    return found.stored.sequence


async def _merged(iterators: Sequence[AsyncIterator[Found]], order: Callable[[Found], float]) -> AsyncIterator[Found]:
    """Iterate over several iterators at once, which have an order each."""
    heads: list[tuple[float, int, Found]] = []
    for number, each in enumerate(iterators):
        if (first := await anext(each, None)) is not None:
            heads.append((order(first), number, first))
    heapify(heads)
    while heads:
        _, number, found = heads[0]
        yield found
        following = await anext(iterators[number], None)
        if following is None:
            heappop(heads)
        else:
            heapreplace(heads, (order(following), number, following))
