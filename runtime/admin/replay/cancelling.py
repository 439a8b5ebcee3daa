"""The cancel of a replay: no more events are sent, and those that wait are taken back."""

import asyncio
from typing import Final

import msgspec

from runtime import clocks
from runtime.admin.replay.refusal import NotFound
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import WrongSequence
from runtime.storage.dead_letters import DeadLetters, replay_of
from runtime.storage.replays import Entry, Replay, Replays
from runtime.wire.codec import UNDECODABLE
from runtime.wire.subjects import Names

_NOTICE: Final = 3.0
"""Seconds after which the command that runs the replay counts as ended, if it does not answer. It stores its position each
second."""
_LOOK: Final = 0.05
"""Seconds between two looks for its answer."""


async def cancel(jetstream: JetStream, namespace: str, name: str) -> Replay:
    """Cancel a replay, wherever it is, and return it. One that is done is cancelled too, if some of its events wait.

    Events that a process has in hand are handled all the same.

    Raises:
        NotFound: There is no such replay.
        CodecError: Its entry cannot be read.
        ActorError, TimeoutError: The server does not answer, or refuses it.
    """
    replays = Replays(jetstream, namespace)
    entry = await _find(replays, name)
    lives = jetstream.connection.clock.now() - entry.time < _NOTICE
    while entry.replay.status == "running":
        entry = await _change(replays, entry, msgspec.structs.replace(entry.replay, status="cancelling"))
    if lives:
        entry = await _answered(replays, entry)
    taken = 0
    for actor in entry.replay.actors:
        names = Names(actor, namespace)
        taken += await (_take_events if entry.replay.actor else _take_deliveries)(jetstream, names, name)
    while True:
        before = entry.replay
        after = msgspec.structs.replace(before, taken_back=before.taken_back + taken, status="cancelled")
        if before.status == "done" and not taken:
            return before
        entry = await _change(replays, entry, after)
        if entry.replay is after:
            return after


async def _find(replays: Replays, name: str) -> Entry:
    entry = await replays.find(name)
    if entry is None:
        raise NotFound(f"there is no replay {name}")
    return entry


async def _change(replays: Replays, entry: Entry, after: Replay) -> Entry:
    """Store a replay in the place of an entry, and return the new entry: another one if it has changed meanwhile."""
    try:
        return await replays.store(after, entry.sequence)
    except WrongSequence:
        return await _find(replays, entry.replay.name)


async def _answered(replays: Replays, entry: Entry) -> Entry:
    """Return the entry of a replay that is being cancelled, once the command that runs it has stopped."""
    until = clocks.elapsed() + _NOTICE
    while entry.replay.status == "cancelling" and clocks.elapsed() < until:
        await asyncio.sleep(_LOOK)
        entry = await _find(replays, entry.replay.name)
    return entry


async def _take_events(jetstream: JetStream, names: Names, name: str) -> int:
    """Delete the events of a replay that the reaction of an actor has not handled, and return their number."""
    taken, letters = 0, DeadLetters(jetstream, names)
    if await jetstream.find_stream(names.dead_stream) is None:
        return 0
    async for stored in jetstream.read(names.dead_stream, f"{names.redriven()}.*.*"):
        if replay_of(stored) == name:
            taken += await letters.drop(stored.sequence)
    return taken


class _Marked(msgspec.Struct):
    replay: str = ""


async def _take_deliveries(jetstream: JetStream, names: Names, name: str) -> int:
    """Delete the deliveries of a replay that the actor of a target has not made, and return their number."""
    taken = 0
    if await jetstream.find_stream(names.tells_stream) is None:
        return 0
    async for stored in jetstream.read(names.tells_stream, f"{names.told()}.*.*"):
        try:
            found = msgspec.json.decode(stored.payload, type=_Marked)
        except UNDECODABLE:
            continue  # somebody else has published it
        if found.replay == name:
            taken += await jetstream.delete_message(names.tells_stream, stored.sequence)
    return taken
