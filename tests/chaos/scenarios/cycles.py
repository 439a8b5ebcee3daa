"""Nested calls: a call cycle is refused, and every other message passes each stop of its route once."""

import asyncio
import random
import time
from collections import Counter as Tally
from dataclasses import dataclass, field

from runtime import Bus, Rejected, RequestError
from runtime.errors import DeadlineExceeded
from runtime.wire.ids import new_id
from tests.chaos.cell import Cell, Result, Setting, single_cell
from tests.chaos.cycles import COUNT, along
from tests.chaos.fleet import until

KEYS = 6
"""Keys per actor."""

TIMEOUT = 3.0
"""Seconds of an attempt."""

KINDS = ("straight", "straight", "cycle")
"""Kinds of routes, in their proportions."""

CROSSING = (("north/crossing", "east/crossing"), ("east/crossing", "north/crossing"))
"""Routes of two more callers. Messages on them wait for each other's key until the deadline: a deadlock, not a cycle."""


@dataclass
class Outcomes:
    """The outcomes that callers got."""

    stops: Tally[str] = field(default_factory=Tally)
    """How often each stop was passed by successful messages."""
    ended: Tally[str] = field(default_factory=Tally)
    """Number of messages whose outcome is known, by kind."""
    overdue: Tally[str] = field(default_factory=Tally)
    """Number of attempts that ended at their deadline, by kind."""
    slowest: dict[str, float] = field(default_factory=dict)
    """Longest time from the first attempt to the outcome in seconds, by kind."""
    problems: list[str] = field(default_factory=list)
    last: float = 0.0
    """Monotonic time of the latest outcome."""
    stall: float = 0.0
    """Longest time without an outcome, in seconds."""


class Callers:
    """Callers that send messages along routes until `stop`, each until its outcome is known."""

    def __init__(self, bus: Bus, rng: random.Random, number: int) -> None:
        self.outcomes = Outcomes()
        self._bus = bus
        self._stopping = False
        run = asyncio.get_running_loop().create_task
        self._tasks = [run(self._call(random.Random(rng.random()))) for _ in range(number)]
        self._tasks += [run(self._call(random.Random(rng.random()), route)) for route in CROSSING]

    async def wait_for_more(self, messages: int, timeout: float = 60.0) -> None:
        """Return once the outcomes of `messages` more messages are known. Crossing messages do not count."""
        ended = self.outcomes.ended
        wanted = ended["straight"] + ended["cycle"] + messages
        await until(lambda: ended["straight"] + ended["cycle"] >= wanted, timeout, f"{messages} more outcomes")

    async def stop(self) -> None:
        """Send no new messages; return once all outcomes are known."""
        self._stopping = True
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)

    async def _call(self, rng: random.Random, crossing: tuple[str, ...] = ()) -> None:
        while not self._stopping:
            kind = "crossing" if crossing else rng.choice(KINDS)
            route = crossing or _route(kind, rng)
            began = time.monotonic()
            outcome = await self._send(kind, route, rng)
            self._record(kind, route, outcome, began)

    async def _send(self, kind: str, route: tuple[str, ...], rng: random.Random) -> int | Rejected:
        command_id = new_id()
        while True:
            try:
                return await self._bus.command(along(route), id=command_id, timeout=TIMEOUT)
            except Rejected as rejected:
                return rejected
            except RequestError as error:
                self.outcomes.overdue[kind] += isinstance(error, DeadlineExceeded)
                await asyncio.sleep(rng.uniform(0.02, 0.5))

    def _record(self, kind: str, route: tuple[str, ...], outcome: int | Rejected, began: float) -> None:
        outcomes = self.outcomes
        now = time.monotonic()
        if kind != "crossing":
            outcomes.stall = max(outcomes.stall, now - outcomes.last) if outcomes.last else 0.0
            outcomes.last = now
        outcomes.slowest[kind] = max(outcomes.slowest.get(kind, 0.0), now - began)
        outcomes.ended[kind] += 1
        if kind == "cycle":
            if not isinstance(outcome, Rejected) or " > ".join(route) not in str(outcome):
                outcomes.problems.append(f"the outcome of the cycle {' > '.join(route)} was {outcome!r}")
        elif outcome != len(route):
            outcomes.problems.append(f"the outcome of the route {' > '.join(route)} was {outcome!r}")
        else:
            outcomes.stops.update(route)


def _route(kind: str, rng: random.Random) -> tuple[str, ...]:
    north, east, south = (f"{actor}/{rng.randrange(KEYS)}" for actor in ("north", "east", "south"))
    if kind == "straight":
        return (north, east, south)[: rng.randint(1, 3)]
    return rng.choice([(north, east, north), (north, east, south, north), (north, east, south, east)])


async def call_cycles(setting: Setting) -> Result:
    """Messages pass routes of three actors, some of them cycles, while processes are killed: no hang, each stop passed once."""
    result = Result("call-cycles", setting.seed)
    rng = setting.rng("call-cycles")
    rounds = setting.size(12, 3)
    async with single_cell(setting, result, "cycles") as cell:
        workers = [cell.start(f"tests.chaos.cycles:{name}") for name in ("North", "East", "South") for _ in range(2)]
        for worker in workers:
            await worker.ready()
        callers = Callers(cell.bus, rng, 12)
        outcomes = callers.outcomes
        await callers.wait_for_more(setting.size(2000, 300))
        calm, overdue = dict(outcomes.slowest), Tally(outcomes.overdue)
        outcomes.stall = 0.0
        for _ in range(rounds):
            rng.choice(workers).kill()
            await callers.wait_for_more(50)
        await callers.stop()
        await _audit(cell, result, outcomes)
        result.problems += outcomes.problems[:5]
        cell.check_logs(result)
    result.load = "12 callers, routes of up to four stops over 18 keys"
    result.faults = f"{rounds} kill -9 of processes"
    result.stall = outcomes.stall
    result.figures["messages"] = ", ".join(f"{count} {kind}" for kind, count in sorted(outcomes.ended.items()))
    result.figures["slowest cycle before the kills, s"] = round(calm["cycle"], 3)
    result.figures["crossing attempts that ended at the deadline"] = outcomes.overdue["crossing"]
    for kind in ("straight", "cycle"):
        result.require(not overdue[kind], f"{kind}: {overdue[kind]} attempts ended at their deadline before the kills")
    return result


async def _audit(cell: Cell, result: Result, outcomes: Outcomes) -> None:
    """Compare how often each stop was passed with the outcomes."""
    for stop in sorted({*outcomes.stops, *(f"{actor}/{key}" for actor in COUNT for key in range(KEYS))}):
        actor, _, key = stop.partition("/")
        found = (await cell.bus.query(COUNT[actor](key))).count
        expected = outcomes.stops[stop]
        result.lost += max(expected - found, 0)
        result.twice += max(found - expected, 0)
    result.require(not result.lost, f"{result.lost} stops are missing")
    result.require(not result.twice, f"{result.twice} stops were passed twice")
