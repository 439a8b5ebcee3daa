"""Moves of partitions under load: how long callers wait, and whether a command fails, is lost or takes effect twice."""

import asyncio
from collections.abc import Awaitable, Callable

from bench.process import Child
from bench.results import Measure, Sample
from bench.suite import Suite
from runtime.wire.buckets import partition_of

JOIN, LEAVE, KILL = "a process joins", "a process leaves", "kill -9 of one of two"
REPLACE = "a process is replaced"
"""Another one joins, and it leaves: each of the eight partitions moves once."""
SETTINGS = (JOIN, LEAVE, REPLACE, KILL)
MOVED, OUTCOMES = "8 partitions", "all commands"
"""Names of the contenders."""

LEASE = 2.0
"""Seconds of the lease. A killed owner has its partitions for so long."""
STALL = (LEASE + 1) * 1000
"""Milliseconds after a kill in which others have its partitions: the time to live of the lease, and a second to start them."""
ATTEMPT = 1.0
"""Seconds after which a caller sends a command again, if its owner may have been killed."""

_PARTITIONS = 8
_KEYS = 64
_PATIENCE = 20.0
"""Seconds of a command if no process is killed."""
_ROUNDS = 3


async def run(suite: Suite) -> None:
    """Have processes join, leave and be killed, while 64 callers send commands, about half of what two cores carry."""
    moves = Moves(suite, await suite.server())
    task = suite.progress.add_task("scale, moves", total=4 * _ROUNDS)
    await moves.start()
    for _ in range(_ROUNDS):
        for setting in (JOIN, LEAVE, JOIN, KILL):
            await moves.watch(setting)
            suite.progress.advance(task)
            if setting == LEAVE:
                moves.add_replacement()
    suite.report.measures += [Measure("scale", setting, MOVED, moves.rounds[setting]) for setting in SETTINGS]
    suite.add_figures("scale", "moves", OUTCOMES, **moves.outcomes)


class Moves:
    """Processes that share an actor, and the callers that watch them."""

    def __init__(self, suite: Suite, url: str) -> None:
        self.rounds: dict[str, list[Sample]] = {setting: [] for setting in SETTINGS}
        self.outcomes: Sample = dict.fromkeys(("commands", "failed", "lost", "twice"), 0.0)
        """All commands, those that failed while no process was killed, those without their effect and those with more."""
        self._suite = suite
        self._url = url
        self._sides: list[Child] = []
        self._caller: Child | None = None
        self._changes: dict[str, Callable[[], Awaitable[tuple[float, list[int]]]]] = {
            JOIN: self._join,
            LEAVE: self._leave,
            KILL: self._kill,
        }

    async def start(self) -> None:
        """Start one process, which owns all partitions, and the callers."""
        self._sides = [await self._side()]
        await self._sides[0].call("own", number=_PARTITIONS)
        self._caller = await self._suite.side("actorloom.scale:caller", url=self._url, namespace="moves")
        await self._caller.call("fill", first=0, count=_KEYS)

    async def watch(self, setting: str) -> None:
        """Change the processes under load, and add what the callers have seen."""
        assert self._caller is not None
        patience = ATTEMPT if setting == KILL else _PATIENCE
        await self._caller.call("begin_deposits", keys=_KEYS, patience=patience)
        seconds, moved = await self._changes[setting]()
        found = await self._caller.call("end_deposits", timeout=2 * _PATIENCE)
        waits: dict[bool, list[float]] = {True: [0.0], False: [0.0]}
        for account, longest in found["longest"].items():
            waits[partition_of(account, _PARTITIONS) in moved].append(longest)
        sample = {"moved_ms": seconds * 1000, "longest_ms": max(waits[True]), "others_ms": max(waits[False])}
        self.rounds[setting].append(sample)
        self.outcomes["failed"] += 0 if setting == KILL else found["failed"]
        for name in ("commands", "lost", "twice"):
            self.outcomes[name] += found[name]

    def add_replacement(self) -> None:
        """Add what the callers have seen of the last two changes, a join and a leave, as one replacement."""
        joined, left = self.rounds[JOIN][-1], self.rounds[LEAVE][-1]
        longest = {name: max(joined[name], left[name]) for name in ("longest_ms", "others_ms")}
        self.rounds[REPLACE].append({"moved_ms": joined["moved_ms"] + left["moved_ms"], **longest})

    async def _side(self) -> Child:
        return await self._suite.side(
            "actorloom.scale:accounts",
            url=self._url,
            namespace="moves",
            partitions=_PARTITIONS,
            lease_ttl=LEASE,
        )

    async def _join(self) -> tuple[float, list[int]]:
        """Start a process. Return the seconds from its connection until it owned its share, and these partitions."""
        self._sides.append(await self._side())
        seconds, _ = await self._sides[-1].call("start_up")
        await self._sides[-1].call("own", number=_PARTITIONS // 2)
        return seconds, await self._sides[-1].call("owned")

    async def _leave(self) -> tuple[float, list[int]]:
        """Drain the older process. Return the seconds until the other one owned all, and the partitions that moved."""
        moved = await self._sides[0].call("owned")
        return await self._hand_over(self._sides.pop(0).stop(30.0)), moved

    async def _kill(self) -> tuple[float, list[int]]:
        """Kill the older process. Return as `_leave` does."""
        moved = await self._sides[0].call("owned")
        killed = self._sides.pop(0).process
        killed.kill()
        return await self._hand_over(killed.wait()), moved

    async def _hand_over(self, ending: Awaitable[object]) -> float:
        clock = asyncio.get_running_loop().time
        begun = clock()
        task = asyncio.ensure_future(ending)
        await self._sides[0].call("own", number=_PARTITIONS)
        seconds = clock() - begun
        await task
        return seconds
