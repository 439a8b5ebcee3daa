"""Unpublished events of a process that was killed between commit and publish, on keys that get no further message."""

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Sequence

import msgspec

from runtime.nats.jetstream.client import JetStream
from runtime.storage.record import decode_record
from runtime.wire.subjects import Names
from tests.chaos.actors import Add, Total
from tests.chaos.cell import Cell, Result, Setting, single_cell
from tests.chaos.desk import Take
from tests.chaos.fleet import Worker
from tests.chaos.load import OneShotLoad

KILL_POINTS = ("commit.sent", "commit.after", "relay.before")
"""Points at which a kill leaves an event that is stored in a record and not published."""

TICK = 0.5
"""Seconds between sweeps. Lives are longer than this, so that the checkpoint moves between kills."""

PATIENCE = 10.0
"""Seconds without progress after which missing effects count as lost."""


async def recovery(setting: Setting) -> Result:
    """Owners are killed between commit and publish, and no key gets another message: the next owner publishes their events."""
    result = Result("recovery", setting.seed)
    await kill_owner(setting, result)
    _require_no_damage(result)
    return result


async def sweep(setting: Setting) -> Result:
    """One of two processes without state is killed between commit and publish: the other one publishes its events."""
    result = Result("sweep", setting.seed)
    await kill_peer(setting, result)
    _require_no_damage(result)
    return result


async def kill_owner(
    setting: Setting, result: Result, without: Sequence[str] = (), *, patience: float = PATIENCE
) -> None:
    """Fill in `result`: kill the owner of the counter, and compare its turns with their events and reactions."""
    kills = _kills(setting)
    async with single_cell(setting, result, "recovery") as cell:
        cell.start("ledger")
        owner = cell.start("counter", kills=kills, without=without, tick=TICK)
        load = OneShotLoad(cell.bus, Add)
        await _run_until_killed(load, owner)
        await _compare(cell, result, load, "counter", "added", "ledger", patience)
    result.faults = f"{len(kills)} kill -9 of the owner between commit and publish"


async def kill_peer(
    setting: Setting, result: Result, without: Sequence[str] = (), *, patience: float = PATIENCE
) -> None:
    """Fill in `result`: kill one of two processes of the desk, and compare its turns with their events and reactions."""
    kills = _kills(setting)
    async with single_cell(setting, result, "sweep") as cell:
        cell.start("tests.chaos.desk:Shelf")
        checkpoint_owner = cell.start("tests.chaos.desk:Desk", without=without, tick=TICK)
        await checkpoint_owner.ready()
        victim = cell.start("tests.chaos.desk:Desk", kills=kills)
        load = OneShotLoad(cell.bus, Take)
        await _run_until_killed(load, victim)
        await _compare(cell, result, load, "desk", "taken", "shelf", patience)
        codes = checkpoint_owner.exit_codes
        result.require(not codes, f"the process that was not killed ended with {codes}")
    result.faults = f"{len(kills)} kill -9 of one of two processes between commit and publish"


def _require_no_damage(result: Result) -> None:
    result.require(not result.lost, f"{result.lost} committed turns whose event was not handled")
    result.require(not result.twice, f"{result.twice} extra events")


def _kills(setting: Setting) -> list[str]:
    rng = setting.rng("recovery")
    return [f"{point}:{rng.randint(20, 300)}" for _ in range(setting.size(3, 1)) for point in KILL_POINTS]


async def _run_until_killed(load: OneShotLoad, victim: Worker) -> None:
    load.start()
    await victim.killed_as_armed(30.0 + 10.0 * len(victim.program.kills))
    await load.wait_for_more(50)
    await load.stop()


async def _compare(
    cell: Cell, result: Result, load: OneShotLoad, actor: str, event: str, reacting: str, patience: float
) -> None:
    """Compare committed turns, events and reactions, once they agree or have not changed for `patience` seconds.

    Args:
        cell: The cell.
        result: Gets the numbers of lost and double effects.
        load: The stopped callers.
        actor: The actor that emits.
        event: Name of its event.
        reacting: The actor that counts the events by key.
        patience: Seconds without progress after which missing effects count as lost.
    """
    result.load = "8 callers, each command to a key of its own, sent once"
    last, changed = None, time.monotonic()
    while True:
        committed, events, counted = await _read(cell, actor, event, reacting)
        keys = load.sent.keys() | committed | events.keys() | counted.keys()
        lost = [key for key in keys if min(events[key], counted[key]) < (key in committed or key in load.done)]
        twice = [key for key in keys if max(events[key], counted[key]) > (key in committed)]
        progress = (len(committed), events.total(), counted.total())
        if progress != last:
            last, changed = progress, time.monotonic()
        if not (lost or twice) or time.monotonic() - changed > patience:
            break
        await asyncio.sleep(0.2)
    result.lost, result.twice = len(lost), len(twice)
    result.figures["committed turns"] = len(committed)
    result.figures["committed turns without a reply"] = len(committed - load.done)
    cell.check_logs(result)
    result.require(bool(committed - load.done), "every committed turn was answered, so no event was left unpublished")


async def _read(cell: Cell, actor: str, event: str, reacting: str) -> tuple[set[str], Tally[str], Tally[str]]:
    """Return the keys of the records of `actor`, and the numbers of events and of reactions by key."""
    jetstream = JetStream(cell.connection, timeout=5.0)
    own, other = Names(actor, cell.namespace), Names(reacting, cell.namespace)
    committed = {_key(stored.subject) async for stored in jetstream.read(own.turns_stream, own.turn("*"))}
    events = Tally([_key(each.subject) async for each in jetstream.read(own.events_stream, own.stored_event(event))])
    counted: Tally[str] = Tally()
    async for stored in jetstream.read(other.turns_stream, other.turn("*")):
        state = decode_record(stored.payload, stored.subject).state
        counted[_key(stored.subject)] = msgspec.json.decode(state, type=Total).count
    return committed, events, counted


def _key(subject: str) -> str:
    return subject.rpartition(".")[2]
