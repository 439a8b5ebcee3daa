"""Timers and schedules while something is wrong: once each, late rather than never, never when cancelled."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from runtime import Command, RequestError
from runtime.wire.ids import new_id
from tests.chaos.alarms import Cancel, Every, Rings, SetAlarm
from tests.chaos.audit import Books
from tests.chaos.cell import Cell, Result, Setting, cell, measured
from tests.chaos.fleet import Worker, paused
from tests.chaos.scenarios.kills import kill_at_random
from tests.chaos.servers import Servers

ALARMS = "tests.chaos.alarms:Alarms"
AHEAD = 8.0
"""Seconds until an alarm that is to be taken back or replaced at once."""
SETTLED = 4.0
"""What was taken back or replaced so long before it was due must not ring; less, and it may have been on its way."""
EARLY = 0.05
AGAIN = 20
"""How often an alarm is set that is set again and again."""
SCHEDULES = {"schedule-every": "@every 1s", "schedule-cron": "*/2 * * * * *"}
ZONE = "Asia/Tokyo"
PATIENCE = 25.0

Faults = Callable[[Cell, list[Worker], Random, float], Awaitable[str]]
"""Does something to the processes for some seconds, and returns what."""


async def timers(setting: Setting) -> Result:
    """Alarms are set, replaced and taken back, schedules run, while actor and server are killed: each rings once."""
    return await ring(setting, Result("timers", setting.seed), _kill)


async def paused_timers(setting: Setting) -> Result:
    """The owner of the alarms is stopped past its lease, again and again, and wakes up beside another one."""
    return await ring(setting, Result("paused-timers", setting.seed), _pause)


async def raced_timers(setting: Setting) -> Result:
    """Two processes own all alarms at once: what one sets, the other publishes again, replaces and takes back."""
    return await ring(setting, Result("raced-timers", setting.seed), two_owners, without=["lease"])


async def _kill(here: Cell, workers: list[Worker], rng: Random, seconds: float) -> str:
    processes, servers = await kill_at_random(here, rng, seconds)
    return f"{processes} kill -9 of processes, {servers} of the server"


async def _pause(here: Cell, workers: list[Worker], rng: Random, seconds: float) -> str:
    loop = asyncio.get_running_loop()
    end, count = loop.time() + seconds, 0
    while loop.time() < end:
        # Which of the two is the owner is not asked: each is stopped in its turn.
        with paused([workers[count % 2]]):
            await asyncio.sleep(rng.uniform(1.5, 3.0))
        await asyncio.sleep(rng.uniform(0.3, 1.0))
        count += 1
    return f"{count} SIGSTOP of 1.5 to 3 s past a lease of 1 s, then SIGCONT"


async def two_owners(here: Cell, workers: list[Worker], rng: Random, seconds: float) -> str:
    """Do nothing: who calls has two of them, without a lease."""
    await asyncio.sleep(seconds)
    return "two owners of every key, all the time"


async def ring(setting: Setting, result: Result, faults: Faults, without: Sequence[str] = ()) -> Result:
    """Fill `result` with what rang too often, too early, or not at all."""
    rng = setting.rng("timers")
    seconds, each = setting.much(15, 5), setting.much(40, 10)
    async with (
        measured(result),
        Servers(setting.directory, setting.nodes) as servers,
        cell(setting, servers, "timers") as here,
    ):
        workers = [here.start(ALARMS, without=without) for _ in range(2)]
        await workers[-1].ready()
        alarms = _Alarms(here)
        work = asyncio.gather(
            *(alarms.one(kind, n, Random(rng.random()), seconds) for kind in KINDS for n in range(each))
        )
        for key, schedule in SCHEDULES.items():
            await alarms.told(Every(key, schedule))
        # Once a day, by the clock of another place, and next when the faults are over: the server skips what it misses.
        at = datetime.fromtimestamp(time.time() + seconds + AHEAD, ZoneInfo(ZONE))
        await alarms.told(Every("daily", f"{at.second} {at.minute} {at.hour} * * *", ZONE))
        alarms.expected["daily"] = {"again"}, set()
        result.faults = await faults(here, workers, rng, seconds)
        await work
        await _settle(alarms, result)
        here.complain(result)
    result.load = f"{each} alarms each of {', '.join(KINDS)}; {len(SCHEDULES) + 1} schedules"
    return result


class _Alarms:
    """Sets alarms by commands that are sent until they succeed, and says what should have rung."""

    def __init__(self, here: Cell) -> None:
        self._here = here
        self._books = Books(here.connection, here.namespace)
        self.expected: dict[str, tuple[set[str], set[str]]] = {}
        """By key: notes that must ring, once, and notes that may."""

    async def told(self, message: Command[Any]) -> Any:
        """Send a command under one id until it succeeds."""
        command_id = new_id()
        while True:
            try:
                return await self._here.bus.command(message, id=command_id, timeout=1.5)
            except RequestError:
                await asyncio.sleep(0.1)

    async def rings(self, key: str) -> Rings:
        """What is stored: of two owners each would answer from its own memory."""
        return await self._books.state("alarms", Rings, key)

    async def one(self, kind: str, number: int, rng: Random, seconds: float) -> None:
        """Begin at some time during the faults, and do what `kind` says."""
        key = f"{kind}-{number}"
        await asyncio.sleep(rng.uniform(0, seconds * 0.7))
        if kind == "once":
            await self.told(SetAlarm(key, rng.choice([0.0, rng.uniform(0, seconds / 2)]), "first"))
            self.expected[key] = {"first"}, set()
            return
        if kind == "set again and again":
            await self._again_and_again(key, rng)
            return
        due = await self.told(SetAlarm(key, AHEAD, "first"))
        if kind == "taken back":
            ended = await self.told(Cancel(key))
        else:
            after = rng.uniform(1.0, AHEAD)
            ended = await self.told(SetAlarm(key, after, "second")) - after
        self.expected[key] = {"second"} if kind == "replaced" else set(), set() if ended + SETTLED < due else {"first"}

    async def _again_and_again(self, key: str, rng: Random) -> None:
        late: set[str] = set()
        note, due = "", 0.0
        for number in range(1, AGAIN + 1):
            after = AHEAD if number < AGAIN else 1.0
            ended = await self.told(SetAlarm(key, after, f"{number}")) - after
            if note and ended + SETTLED >= due:
                late.add(note)
            note, due = f"{number}", ended + after
            if number < AGAIN and rng.random() < 0.3:
                if await self.told(Cancel(key)) + SETTLED >= due:
                    late.add(note)
                note = ""
        self.expected[key] = {note}, late


KINDS = ("once", "replaced", "taken back", "set again and again")


async def _settle(alarms: _Alarms, result: Result) -> None:
    """Wait for what must ring, then compare all of it, and see the schedules go on and end."""
    before = {key: await alarms.rings(key) for key in SCHEDULES}
    end = time.monotonic() + PATIENCE
    waiting = {*alarms.expected, *SCHEDULES}
    while waiting and time.monotonic() < end:
        for key in sorted(waiting):
            found = await alarms.rings(key)
            if key in before:
                # A cluster may need some seconds to choose who goes on with them.
                came = len(found.ids) > len(before[key].ids)
            else:
                came = alarms.expected[key][0] <= {note for note, _ in found.rang}
            if came:
                waiting.discard(key)
        await asyncio.sleep(0.1)
    for key in SCHEDULES:
        await alarms.told(Cancel(key))
    await asyncio.sleep(AHEAD)  # what was taken back would have rung by now
    after = {key: await alarms.rings(key) for key in SCHEDULES}
    lateness: list[float] = []
    for key, (must, may) in alarms.expected.items():
        found = await alarms.rings(key)
        notes = [note for note, _ in found.rang]
        lateness += [late for _, late in found.rang]
        lost, extra = must - set(notes), [note for note in notes if note not in must | may]
        doubled = len(notes) - len(set(notes))
        result.lost += len(lost)
        result.twice += doubled + len(extra)
        if lost or extra or doubled:
            result.problems.append(f"{key}: it rang {notes}; it had to ring {sorted(must)}, and might {sorted(may)}")
    for key in SCHEDULES:
        _check_schedule(result, key, before[key], after[key], await alarms.rings(key))
    result.figures["alarms that rang"] = len(lateness)
    result.figures["latest, s"] = f"{max(lateness, default=0.0):.2f}"
    result.require(min(lateness, default=0.0) > -EARLY, f"one rang {-min(lateness):.2f} s too early")


def _check_schedule(result: Result, key: str, before: Rings, after: Rings, now: Rings) -> None:
    doubled = len(now.ids) - len(set(now.ids))
    result.twice += doubled
    result.require(not doubled, f"{key}: {doubled} occurrences were handled twice")
    result.require(len(after.ids) > len(before.ids), f"{key}: it did not go on after the faults")
    result.figures[f"{key}, occurrences"] = len(now.ids)
