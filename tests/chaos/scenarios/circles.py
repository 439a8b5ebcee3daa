"""Calls within calls: those that come back to a key that waits for them are refused, all others happen once at each stop."""

import asyncio
import random
import time
from collections import Counter as Tally
from dataclasses import dataclass, field

from runtime import Bus, Rejected, RequestError
from runtime.errors import DeadlineExceeded
from runtime.wire.ids import new_id
from tests.chaos.cell import Cell, Result, Setting, cell, measured
from tests.chaos.circles import COUNT, along
from tests.chaos.fleet import until
from tests.chaos.servers import Servers

KEYS = 6
TIMEOUT = 3.0
KINDS = ("straight", "straight", "circle")
"""Kinds of routes, as often as they are taken."""
CROSSING = (("north/crossing", "east/crossing"), ("east/crossing", "north/crossing"))
"""Two callers send these, all the time: they meet head on, and wait for each other until the deadline."""


@dataclass
class Account:
    """What the callers were told."""

    stops: Tally[str] = field(default_factory=Tally)
    """How often each stop was passed by the messages that were done."""
    ended: Tally[str] = field(default_factory=Tally)
    """How many messages of each kind have ended as they must."""
    overdue: Tally[str] = field(default_factory=Tally)
    """Attempts of each kind that met their deadline."""
    slowest: dict[str, float] = field(default_factory=dict)
    """Seconds from the first attempt to the outcome, by kind."""
    problems: list[str] = field(default_factory=list)
    last: float = 0.0
    stall: float = 0.0


class Callers:
    """Send messages along routes until `stop`, each again under its id until its outcome is known."""

    def __init__(self, bus: Bus, rng: random.Random, number: int) -> None:
        self.account = Account()
        self._bus = bus
        self._stopping = False
        run = asyncio.get_running_loop().create_task
        self._tasks = [run(self._call(random.Random(rng.random()))) for _ in range(number)]
        self._tasks += [run(self._call(random.Random(rng.random()), route)) for route in CROSSING]

    async def reached(self, messages: int, timeout: float = 60.0) -> None:
        """Return when `messages` more have ended, beside those that cross."""
        ended = self.account.ended
        wanted = ended["straight"] + ended["circle"] + messages
        await until(lambda: ended["straight"] + ended["circle"] >= wanted, timeout, f"{messages} messages that end")

    async def stop(self) -> None:
        """Send nothing new; return when each outcome is known."""
        self._stopping = True
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)

    async def _call(self, rng: random.Random, crossing: tuple[str, ...] = ()) -> None:
        while not self._stopping:
            kind = "crossing" if crossing else rng.choice(KINDS)
            route = crossing or _route(kind, rng)
            began = time.monotonic()
            told = await self._settle(kind, route, rng)
            self._note(kind, route, told, began)

    async def _settle(self, kind: str, route: tuple[str, ...], rng: random.Random) -> int | Rejected:
        command_id = new_id()
        while True:
            try:
                return await self._bus.command(along(route), id=command_id, timeout=TIMEOUT)
            except Rejected as rejected:
                return rejected
            except RequestError as error:
                self.account.overdue[kind] += isinstance(error, DeadlineExceeded)
                await asyncio.sleep(rng.uniform(0.02, 0.5))

    def _note(self, kind: str, route: tuple[str, ...], told: int | Rejected, began: float) -> None:
        account = self.account
        now = time.monotonic()
        if kind != "crossing":
            account.stall = max(account.stall, now - account.last) if account.last else 0.0
            account.last = now
        account.slowest[kind] = max(account.slowest.get(kind, 0.0), now - began)
        account.ended[kind] += 1
        if kind == "circle":
            if not isinstance(told, Rejected) or " > ".join(route) not in str(told):
                account.problems.append(f"the circle {' > '.join(route)} was answered by {told!r}")
        elif told != len(route):
            account.problems.append(f"the route {' > '.join(route)} was answered by {told!r}")
        else:
            account.stops.update(route)


def _route(kind: str, rng: random.Random) -> tuple[str, ...]:
    north, east, south = (f"{actor}/{rng.randrange(KEYS)}" for actor in ("north", "east", "south"))
    if kind == "straight":
        return (north, east, south)[: rng.randint(1, 3)]
    return rng.choice([(north, east, north), (north, east, south, north), (north, east, south, east)])


async def circles(setting: Setting) -> Result:
    """Messages along routes of three actors, circles among them, while processes are killed: no hang, each stop passed once."""
    result = Result("circles", setting.seed)
    rng = setting.rng("circles")
    rounds = setting.much(12, 3)
    async with measured(result), Servers(setting.directory) as servers, cell(setting, servers, "circles") as here:
        workers = [here.start(f"tests.chaos.circles:{name}") for name in ("North", "East", "South") for _ in range(2)]
        for worker in workers:
            await worker.ready()
        callers = Callers(here.bus, rng, 12)
        account = callers.account
        await callers.reached(setting.much(2000, 300))
        calm, overdue = dict(account.slowest), Tally(account.overdue)
        account.stall = 0.0
        for _ in range(rounds):
            rng.choice(workers).kill()
            await callers.reached(50)
        await callers.stop()
        await _audit(here, result, account)
        result.problems += account.problems[:5]
        here.complain(result)
    result.load = "12 callers, routes of up to four stops over 18 keys"
    result.faults = f"{rounds} kill -9 of processes"
    result.stall = account.stall
    result.figures["messages"] = ", ".join(f"{count} {kind}" for kind, count in sorted(account.ended.items()))
    result.figures["slowest circle while nothing is killed, s"] = round(calm["circle"], 3)
    result.figures["of two that meet head on, at their deadline"] = account.overdue["crossing"]
    for kind in ("straight", "circle"):
        result.require(
            not overdue[kind], f"{kind}: {overdue[kind]} waited until their deadline, and nothing was killed"
        )
    return result


async def _audit(here: Cell, result: Result, account: Account) -> None:
    """Compare how often each stop was passed with what the callers were told."""
    for stop in sorted({*account.stops, *(f"{actor}/{key}" for actor in COUNT for key in range(KEYS))}):
        actor, _, key = stop.partition("/")
        found = (await here.bus.query(COUNT[actor](key))).count
        expected = account.stops[stop]
        result.lost += max(expected - found, 0)
        result.twice += max(found - expected, 0)
    result.require(not result.lost, f"{result.lost} stops are missing")
    result.require(not result.twice, f"{result.twice} stops were passed twice")
