"""Timers and schedules during faults: each timer fires once, late if need be, and never after it was cancelled."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from runtime import Command, RequestError
from runtime.wire.ids import new_id
from tests.chaos.alarms import Cancel, Every, Rings, SetAlarm
from tests.chaos.audit import StoreReader
from tests.chaos.cell import Cell, Result, Setting, single_cell
from tests.chaos.fleet import Worker, paused
from tests.chaos.scenarios.kills import kill_at_random

ALARMS = "tests.chaos.alarms:Alarms"
AHEAD = 8.0
"""Seconds until the due time of an alarm that is cancelled or replaced at once."""

SAFE = 4.0
"""An alarm that is cancelled or replaced this many seconds before its due time must not ring. A later one may.

The cancellation is with the server when the owner, or the next one, has published it. So if alarms ring later than these seconds
because no owner works for so long, the time is that of the latest one.
"""

EARLY = 0.05
"""Seconds by which an alarm may ring too early."""

TIMES = 20
"""How often an alarm of the kind ``set repeatedly`` is set."""

PARTITIONS = 8
SCHEDULES = {"schedule-every": "@every 1s", "schedule-cron": "*/2 * * * * *"}
ZONE = "Asia/Tokyo"
PATIENCE = 25.0
"""Seconds after the faults within which all alarms must have rung."""

Faults = Callable[[Cell, list[Worker], Random, float], Awaitable[str]]
"""Injects faults for some seconds, and returns a description of them."""


async def timers(setting: Setting) -> Result:
    """Alarms are set, replaced and cancelled, and schedules run, while actor and server are killed: each alarm rings once."""
    return await ring(setting, Result("timers", setting.seed), _kill)


async def paused_timers(setting: Setting) -> Result:
    """The owner of the alarms is stopped past its lease, again and again, and continues beside its successor."""
    return await ring(setting, Result("paused-timers", setting.seed), _pause)


async def raced_timers(setting: Setting) -> Result:
    """Two processes own all alarms at the same time, and replace and cancel each other's timers."""
    return await ring(setting, Result("raced-timers", setting.seed), two_owners, without=["lease"])


async def partition_timers(setting: Setting) -> Result:
    """Three processes share the alarms by partitions, and are killed, stopped and drained, as is the server."""
    return await ring(setting, Result("partition-timers", setting.seed), move, partitions=PARTITIONS)


async def move(cell: Cell, workers: list[Worker], rng: Random, seconds: float) -> str:
    """Let partitions move all the time."""
    loop = asyncio.get_running_loop()
    end, faults = loop.time() + seconds, list[str]()
    while loop.time() < end:
        faults.append(rng.choice(("kill", "SIGTERM", "SIGTERM", "SIGSTOP")) if len(faults) != 2 else "server")
        worker = rng.choice(workers)
        match faults[-1]:
            case "kill":
                worker.kill()
            case "SIGTERM":
                worker.signal(signal.SIGTERM)
            case "SIGSTOP":
                with paused([worker]):
                    await asyncio.sleep(rng.uniform(1.5, 2.5))
            case _:
                await cell.servers.restart(rng.choice(cell.servers.nodes))
        await asyncio.sleep(rng.uniform(0.3, 1.5))
    return ", ".join(f"{faults.count(one)} {one}" for one in sorted(set(faults)))


async def _kill(cell: Cell, workers: list[Worker], rng: Random, seconds: float) -> str:
    processes, servers = await kill_at_random(cell, rng, seconds)
    return f"{processes} kill -9 of processes, {servers} of the server"


async def _pause(cell: Cell, workers: list[Worker], rng: Random, seconds: float) -> str:
    loop = asyncio.get_running_loop()
    end, count = loop.time() + seconds, 0
    while loop.time() < end:
        # Each worker is stopped in turn, so every second stop is that of the owner.
        with paused([workers[count % 2]]):
            await asyncio.sleep(rng.uniform(1.5, 3.0))
        await asyncio.sleep(rng.uniform(0.3, 1.0))
        count += 1
    return f"{count} SIGSTOP of 1.5 to 3 s past a lease of 1 s, then SIGCONT"


async def two_owners(cell: Cell, workers: list[Worker], rng: Random, seconds: float) -> str:
    """Wait: the caller has started two owners without a lease."""
    await asyncio.sleep(seconds)
    return "two owners of every key, all the time"


async def ring(
    setting: Setting, result: Result, faults: Faults, without: Sequence[str] = (), partitions: int = 1
) -> Result:
    """Fill in `result` with alarms that rang too often, too early, or not at all; return it."""
    rng = setting.rng("timers")
    seconds, each = setting.size(15, 5), setting.size(40, 10)
    async with single_cell(setting, result, "timers") as cell:
        cell.partitions = partitions
        workers = [cell.start(ALARMS, without=without) for _ in range(2 if partitions == 1 else 3)]
        await workers[-1].ready()
        alarms = _Alarms(cell)
        work = asyncio.gather(
            *(alarms.one(kind, n, Random(rng.random()), seconds) for kind in KINDS for n in range(each))
        )
        for key, schedule in SCHEDULES.items():
            await alarms.send(Every(key, schedule))
        # A daily schedule in another time zone, due after the faults, because the server skips times that it misses.
        at = datetime.fromtimestamp(time.time() + seconds + AHEAD, ZoneInfo(ZONE))
        await alarms.send(Every("daily", f"{at.second} {at.minute} {at.hour} * * *", ZONE))
        alarms.expected["daily"] = {"again"}, {}
        result.faults = await faults(cell, workers, rng, seconds)
        await work
        await _compare(alarms, result)
        cell.check_logs(result)
    result.load = f"{each} alarms each of {', '.join(KINDS)}; {len(SCHEDULES) + 1} schedules"
    return result


class _Alarms:
    """Sets alarms with commands that are sent until they succeed, and records the expected rings."""

    def __init__(self, cell: Cell) -> None:
        self._here = cell
        self._books = StoreReader(cell.connection, cell.namespace, cell.partitions)
        self.expected: dict[str, tuple[set[str], dict[str, float]]] = {}
        """By key: the notes that must ring once, and those that were taken back, with the seconds until they were due."""

    async def send(self, message: Command[Any]) -> Any:
        """Send a command under one id until it succeeds; return the reply."""
        command_id = new_id()
        while True:
            try:
                return await self._here.bus.command(message, id=command_id, timeout=1.5)
            except RequestError:
                await asyncio.sleep(0.1)

    async def rings(self, key: str) -> Rings:
        """Return the stored rings. A query would get the view of one of two owners."""
        return await self._books.state("alarms", Rings, key)

    async def one(self, kind: str, number: int, rng: Random, seconds: float) -> None:
        """Start at a random time during the faults, and set an alarm in the way that `kind` names."""
        key = f"{kind}-{number}"
        await asyncio.sleep(rng.uniform(0, seconds * 0.7))
        if kind == "once":
            await self.send(SetAlarm(key, rng.choice([0.0, rng.uniform(0, seconds / 2)]), "first"))
            self.expected[key] = {"first"}, {}
            return
        if kind == "set repeatedly":
            await self._set_repeatedly(key, rng)
            return
        due = await self.send(SetAlarm(key, AHEAD, "first"))
        if kind == "cancelled":
            cancelled = await self.send(Cancel(key))
        else:
            after = rng.uniform(1.0, AHEAD)
            cancelled = await self.send(SetAlarm(key, after, "second")) - after
        self.expected[key] = {"second"} if kind == "replaced" else set(), {"first": due - cancelled}

    async def _set_repeatedly(self, key: str, rng: Random) -> None:
        taken_back: dict[str, float] = {}
        note, due = "", 0.0
        for number in range(1, TIMES + 1):
            after = AHEAD if number < TIMES else 1.0
            replaced = await self.send(SetAlarm(key, after, f"{number}")) - after
            if note:
                taken_back[note] = due - replaced
            note, due = f"{number}", replaced + after
            if number < TIMES and rng.random() < 0.3:
                taken_back[note] = due - await self.send(Cancel(key))
                note = ""
        self.expected[key] = {note}, taken_back


KINDS = ("once", "replaced", "cancelled", "set repeatedly")


async def _compare(alarms: _Alarms, result: Result) -> None:
    """Wait for the expected rings, compare all of them, and check that schedules continue and can be cancelled."""
    before = {key: await alarms.rings(key) for key in SCHEDULES}
    end = time.monotonic() + PATIENCE
    waiting = {*alarms.expected, *SCHEDULES}
    while waiting and time.monotonic() < end:
        for key in sorted(waiting):
            found = await alarms.rings(key)
            if key in before:
                # A cluster may need some seconds to elect a leader for the schedules.
                rang = len(found.ids) > len(before[key].ids)
            else:
                rang = alarms.expected[key][0] <= {note for note, _ in found.rang}
            if rang:
                waiting.discard(key)
        await asyncio.sleep(0.1)
    for key in SCHEDULES:
        await alarms.send(Cancel(key))
    await asyncio.sleep(AHEAD)  # cancelled alarms would have rung by now
    after = {key: await alarms.rings(key) for key in SCHEDULES}
    rings = {key: (await alarms.rings(key)).rang for key in alarms.expected}
    lateness = [late for found in rings.values() for _, late in found]
    wanted = [late for key, found in rings.items() for note, late in found if note in alarms.expected[key][0]]
    safe = max([SAFE, *wanted])
    for key, (must, taken_back) in alarms.expected.items():
        notes = [note for note, _ in rings[key]]
        may = {note for note, left in taken_back.items() if left <= safe}
        lost, extra = must - set(notes), [note for note in notes if note not in must | may]
        doubled = len(notes) - len(set(notes))
        result.lost += len(lost)
        result.twice += doubled + len(extra)
        if lost or extra or doubled:
            result.problems.append(f"{key}: {notes} rang; expected {sorted(must)}, and perhaps {sorted(may)}")
    for key in SCHEDULES:
        _check_schedule(result, key, before[key], after[key], await alarms.rings(key))
    result.figures["alarms that rang"] = len(lateness)
    result.figures["latest, s"] = f"{max(lateness, default=0.0):.2f}"
    result.require(min(lateness, default=0.0) > -EARLY, f"an alarm rang {-min(lateness):.2f} s too early")


def _check_schedule(result: Result, key: str, before: Rings, after: Rings, now: Rings) -> None:
    doubled = len(now.ids) - len(set(now.ids))
    result.twice += doubled
    result.require(not doubled, f"{key}: {doubled} occurrences were handled twice")
    result.require(len(after.ids) > len(before.ids), f"{key}: it did not continue after the faults")
    result.figures[f"{key}, occurrences"] = len(now.ids)
