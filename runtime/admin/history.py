"""The history of a key: its events, its dead letters and its timers by time. Of its states, only the newest is stored.

An event belongs to the key in its subject. So does a dead letter: the key is that of the event which failed, or the one that set the
timer. A reaction may act on another key, which only the code of its actor knows.
"""

from collections.abc import AsyncIterator
from heapq import heappop, heappush
from typing import Final

import msgspec

from runtime.admin.stored import StoredActor
from runtime.admin.timers import find_timers
from runtime.storage.dead_letters import DeadLetters
from runtime.storage.streams import refuse_old
from runtime.wire import header_block
from runtime.wire.buckets import bucket_of
from runtime.wire.cloudevents import received_id

EVENT: Final = "event"
DEAD_LETTER: Final = "dead letter"
DUE_TIMER: Final = "due timer"
TIMER: Final = "timer"


class Happening(msgspec.Struct, frozen=True):
    """Something that has happened at a key, or will."""

    time: float | None
    """Unix seconds: when it was stored, or when a timer is due. None for a schedule, whose next time is not stored."""
    kind: str
    """`EVENT`, `DEAD_LETTER`, `DUE_TIMER` or `TIMER`."""
    name: str
    """The class name of the event, or of the command of a timer; of a dead letter in its form in subjects."""
    id: str
    """The id of the event or timer, or the name of the dead letter: ``orders:17``."""
    detail: str
    """The reason of a dead letter; the name and the pattern of a timer."""
    trace: str | None
    """The id of its trace: 32 hex digits."""
    body: bytes


async def read_history(
    actor: StoredActor, token: str, since: float = 0.0, limit: int | None = None
) -> tuple[list[Happening], int]:
    """Return the history of a key from a time on, oldest first, and the number of its entries; schedules come last.

    Args:
        actor: The actor.
        token: The token of the key.
        since: Unix seconds.
        limit: Only the newest ones, and no more are in memory; None for all.

    Raises:
        OldStream: An earlier version has created the stream of events.
        ApiError, TimeoutError: A stream cannot be read now.
    """
    newest: list[tuple[bool, float, int, Happening]] = []
    count = 0
    for source in (_events, _dead_letters, _timers):
        async for each in source(actor, token):
            if each.time is None or each.time >= since:
                count += 1
                heappush(newest, (each.time is None, each.time or 0.0, count, each))
                if limit is not None and len(newest) > limit:
                    heappop(newest)
    return [entry[-1] for entry in sorted(newest)], count


async def _events(actor: StoredActor, token: str) -> AsyncIterator[Happening]:
    names, jetstream = actor.names, actor.jetstream
    info = await jetstream.find_stream(names.events_stream)
    if info is None:
        return
    refuse_old(info.config, names.actor)
    async for stored in jetstream.read(names.events_stream, names.stored_event("*", bucket_of(token), token)):
        in_subject = stored.subject.removeprefix(names.events("")).partition(".")[0]
        name = (header_block.get(stored.headers, b"ce-type") or in_subject).rpartition(".")[2]
        trace = header_block.trace_id(stored.headers)
        yield Happening(stored.time, EVENT, name, received_id(stored.headers) or "", "", trace, stored.payload)


async def _timers(actor: StoredActor, token: str) -> AsyncIterator[Happening]:
    for timer in await find_timers(actor, token):
        kind, detail = DUE_TIMER if timer.is_due else TIMER, " ".join(filter(None, (timer.name, timer.schedule)))
        yield Happening(timer.time, kind, timer.command, timer.id, detail, timer.trace, timer.body)


async def _dead_letters(actor: StoredActor, token: str) -> AsyncIterator[Happening]:
    if await actor.jetstream.find_stream(actor.names.dead_stream) is None:
        return
    async for letter in DeadLetters(actor.jetstream, actor.names).read():
        if letter.token == token:
            trace = header_block.trace_id(header_block.encode(letter.headers.items()))
            yield Happening(
                letter.time, DEAD_LETTER, letter.name, letter.id, letter.failure.reason, trace, letter.payload
            )
