"""What a process that was killed between commit and publish has left: nobody's next message carries it on."""

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Sequence

import msgspec

from runtime.nats.jetstream.client import JetStream
from runtime.storage.record import decode_record
from runtime.wire.subjects import Names
from tests.chaos.actors import Add, Total
from tests.chaos.cell import Cell, Result, Setting, cell, measured
from tests.chaos.desk import Take
from tests.chaos.fleet import Worker, until
from tests.chaos.load import Once
from tests.chaos.servers import Servers

LEFT = ("commit.sent", "commit.after", "relay.before")
"""Points at which a process leaves an event that is stored in a record and not published."""
TICK = 0.5
"""Seconds between looks of the sweep, so that a life is longer than that: the checkpoint moves between kills."""
PATIENCE = 10.0


async def recovery(setting: Setting) -> Result:
    """Owners are killed between commit and publish, and no key gets another message: the next owner publishes what was left."""
    return _holds(await recover(setting, Result("recovery", setting.seed)))


async def sweep(setting: Setting) -> Result:
    """One of two processes without state is killed so, again and again: the one that lives publishes what it left."""
    return _holds(await look_after(setting, Result("sweep", setting.seed)))


async def recover(
    setting: Setting, result: Result, without: Sequence[str] = (), *, patience: float = PATIENCE
) -> Result:
    """Fill `result` with what became of the events of `counter`."""
    kills = _kills(setting)
    async with (
        measured(result),
        Servers(setting.directory, setting.nodes) as servers,
        cell(setting, servers, "recovery") as here,
    ):
        here.start("ledger")
        owner = here.start("counter", kills=kills, without=without, tick=TICK)
        once = Once(here.bus, Add)
        await _until_killed(once, owner)
        await _account(here, result, once, "counter", "added", "ledger", patience)
    result.faults = f"{len(kills)} kill -9 of the owner between commit and publish"
    return result


async def look_after(
    setting: Setting, result: Result, without: Sequence[str] = (), *, patience: float = PATIENCE
) -> Result:
    """Fill `result` with what became of the events of `desk`."""
    kills = _kills(setting)
    async with (
        measured(result),
        Servers(setting.directory, setting.nodes) as servers,
        cell(setting, servers, "sweep") as here,
    ):
        here.start("tests.chaos.desk:Shelf")
        checkpoint_owner = here.start("tests.chaos.desk:Desk", without=without, tick=TICK)
        await checkpoint_owner.ready()
        victim = here.start("tests.chaos.desk:Desk", kills=kills)
        once = Once(here.bus, Take)
        await _until_killed(once, victim)
        await _account(here, result, once, "desk", "taken", "shelf", patience)
        result.require(
            not checkpoint_owner.deaths, f"the process that nobody killed ended with {checkpoint_owner.deaths}"
        )
    result.faults = f"{len(kills)} kill -9 of one of two processes between commit and publish"
    return result


def _holds(result: Result) -> Result:
    result.require(not result.lost, f"{result.lost} turns committed whose event was not handled")
    result.require(not result.twice, f"{result.twice} events too many")
    return result


def _kills(setting: Setting) -> list[str]:
    rng = setting.rng("recovery")
    return [f"{point}:{rng.randint(20, 300)}" for _ in range(setting.much(3, 1)) for point in LEFT]


async def _until_killed(once: Once, victim: Worker) -> None:
    once.start()
    wanted = len(victim.program.kills)
    await until(lambda: len(victim.deaths) >= wanted, 30.0 + 10.0 * wanted, "the kills")
    await once.reached(50)
    await once.stop()


async def _account(
    here: Cell, result: Result, once: Once, actor: str, event: str, reacting: str, patience: float
) -> None:
    """Compare turns that committed, events and reactions, when they agree or nothing more comes for `patience` seconds."""
    result.load = "8 callers, each command to a key of its own, sent once"
    last, changed = None, time.monotonic()
    while True:
        committed, events, counted = await _read(here, actor, event, reacting)
        keys = once.sent.keys() | committed | events.keys() | counted.keys()
        lost = [key for key in keys if min(events[key], counted[key]) < (key in committed or key in once.done)]
        twice = [key for key in keys if max(events[key], counted[key]) > (key in committed)]
        now = (len(committed), events.total(), counted.total())
        if now != last:
            last, changed = now, time.monotonic()
        if not (lost or twice) or time.monotonic() - changed > patience:
            break
        await asyncio.sleep(0.2)
    result.lost, result.twice = len(lost), len(twice)
    result.figures["turns that committed"] = len(committed)
    result.figures["of them without an answer to the caller"] = len(committed - once.done)
    here.complain(result)
    result.require(bool(committed - once.done), "no turn committed without its caller being told: nothing was left")


async def _read(here: Cell, actor: str, event: str, reacting: str) -> tuple[set[str], Tally[str], Tally[str]]:
    """Return the keys of the records of `actor`, and how many events and reactions there are of each."""
    jetstream = JetStream(here.connection, timeout=5.0)
    own, other = Names(actor, here.namespace), Names(reacting, here.namespace)
    committed = {_key(stored.subject) async for stored in jetstream.read(own.turns_stream, own.turn("*"))}
    events = Tally([_key(each.subject) async for each in jetstream.read(own.events_stream, own.event(event, "*"))])
    counted: Tally[str] = Tally()
    async for stored in jetstream.read(other.turns_stream, other.turn("*")):
        state = decode_record(stored.payload, stored.subject).state
        counted[_key(stored.subject)] = msgspec.json.decode(state, type=Total).count
    return committed, events, counted


def _key(subject: str) -> str:
    return subject.rpartition(".")[2]
