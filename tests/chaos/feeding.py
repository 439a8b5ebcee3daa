"""Feeding: events are emitted while rules change. Each event has a window: the changes that it must, and may, go by."""

import asyncio
import time
from collections.abc import Iterable
from random import Random
from typing import Any, NamedTuple

from runtime import Command, Rejected, RequestError
from runtime.router.routing import GetInForce
from runtime.router.rule import DisableRule, EnableRule, PutRule, Rule
from runtime.router.target import PutTarget
from runtime.wire.buckets import partition_of
from runtime.wire.ids import new_id
from runtime.wire.tokens import key_token
from tests.chaos.cell import Cell
from tests.chaos.feeds import Feed
from tests.chaos.rulebook import FLIP, SIDES, SWITCH, plain_rules, rule_fields, target_fields

BATCH = 5
"""Events of one command at most."""
FEEDERS = 10
_TIMEOUT = 3.0
_HELD, _HELD_SHARE = 8.0, 0.2
"""Seconds for which `SWITCH` stays disabled now and then, and the share of these times."""


class Window(NamedTuple):
    """The changes around the emit of some events. The changes of each rule are counted from 1 on."""

    first: int
    last: int
    """The numbers of the events."""
    flip: int
    """The change of `FLIP` that was in force before they were emitted."""
    switch: int
    """The change of `SWITCH` that was in force before they were emitted."""


async def persist(cell: Cell, message: Command[Any]) -> Any:
    """Send a command under one id until it has succeeded, and return its reply. Raises `Rejected`."""
    command_id = new_id()
    while True:
        try:
            return await cell.bus.command(message, id=command_id, timeout=_TIMEOUT)
        except Rejected:
            raise
        except RequestError:
            await asyncio.sleep(0.05)


class Changes:
    """The two rules that change all the time. A change is in force when each owner of the router has it.

    Args:
        cell: The cell.
        partitions: Partitions of the router.
    """

    def __init__(self, cell: Cell, partitions: int) -> None:
        self._cell = cell
        self._keys = list(_one_key_each(partitions))
        self.flips_begun = self.flips = 0
        """The changes of `FLIP` that have begun, and that are in force."""
        self.switches = 0
        """The changes of `SWITCH`. After an odd number of them the rule is enabled."""
        self._settled = 0.0
        """The Unix time at which the last change of `SWITCH` was in force."""
        self.disabled: list[tuple[float, float]] = []
        """The Unix times between which `SWITCH` was disabled for certain."""

    async def run(self, rng: Random, end: float) -> None:
        """Change both rules, one after the other, until the monotonic time `end`."""
        held = 0.0
        while time.monotonic() < end:
            await self.flip()
            await asyncio.sleep(rng.uniform(0.0, 0.2))
            if time.monotonic() < held:
                continue
            await self.switch()
            if self.switches % 2 == 0 and rng.random() < _HELD_SHARE:
                held = time.monotonic() + _HELD
            await asyncio.sleep(rng.uniform(0.0, 0.2))

    async def flip(self) -> None:
        """Let the rule go to its other target, and return when that is in force."""
        self.flips_begun += 1
        side = SIDES[(self.flips_begun - 1) % 2]
        await self._put(PutRule(FLIP, rule_fields(None, (side,), self.flips_begun), unchecked=True))
        self.flips = self.flips_begun

    async def switch(self) -> None:
        """Enable or disable the rule, and return when that is in force."""
        number = self.switches + 1
        begun = time.time()
        if number == 1:
            await self._put(PutRule(SWITCH, rule_fields(None, SIDES[:1]), unchecked=True))
        else:
            await self._put(EnableRule(SWITCH) if number % 2 else DisableRule(SWITCH))
        self.switches = number
        if self.switches > 1 and self.switches % 2:
            self.disabled.append((self._settled, begun))
        self._settled = time.time()

    async def _put(self, message: Command[Rule]) -> None:
        rule = await persist(self._cell, message)
        for key in self._keys:
            await self.in_force(key, rule)

    async def in_force(self, key: str, rule: Rule) -> None:
        """Return when the owner of a key has a version of a rule."""
        while True:
            try:
                if await self._cell.bus.query(GetInForce(key, rule.name, rule.version)) >= rule.version:
                    return
            except RequestError:
                await asyncio.sleep(0.05)


class Feeding:
    """Puts the targets and the rules, and emits events while they change.

    Args:
        cell: The cell.
        rng: Chooses keys, batches and pauses.
        keys: Number of feeds, at least `FEEDERS`.
        partitions: Partitions of the router.
        changing: Whether rules change while events are emitted.
    """

    def __init__(self, cell: Cell, rng: Random, keys: int, partitions: int, changing: bool) -> None:
        self._changing = changing
        self._cell = cell
        self._rng = rng
        self.changes = Changes(cell, partitions)
        self.windows: dict[str, list[Window]] = {f"feed-{number}": [] for number in range(keys)}

    async def put(self, url: str, subject: str) -> None:
        """Put all targets and rules, and return when they are in force."""
        for name, target in target_fields(url, subject).items():
            await persist(self._cell, PutTarget(name, target))
        puts = [PutRule(rule.name, rule_fields(rule.where, rule.targets), unchecked=True) for rule in plain_rules()]
        for rule in await asyncio.gather(*(persist(self._cell, put) for put in puts)):
            await self.changes.in_force("", rule)
        await self.changes.flip()
        await self.changes.switch()

    async def run(self, events: int, seconds: float) -> None:
        """Emit about so many events within some seconds, or as soon as possible after that, and change rules meanwhile."""
        keys, rng = [*self.windows], self._rng
        each, end = events // FEEDERS, time.monotonic() + seconds
        pause = seconds / (each / ((1 + BATCH) / 2))
        feeders = [self._feed(keys[number::FEEDERS], each, pause, Random(rng.random())) for number in range(FEEDERS)]
        changes = [self.changes.run(Random(rng.random()), end)] if self._changing else []
        await asyncio.gather(*changes, *feeders)

    async def finish(self) -> None:
        """Change both rules a last time, if they change, and emit an event of each feed by the rules that stay in force then."""
        if self._changing:
            await self.changes.flip()
            await self.changes.switch()
        if self.changes.switches % 2 == 0:
            await self.changes.switch()
        await asyncio.gather(*(self._emit(key, 1) for key in self.windows))

    async def _feed(self, keys: list[str], events: int, pause: float, rng: Random) -> None:
        while events > 0:
            count = min(rng.randint(1, BATCH), events)
            await self._emit(rng.choice(keys), count)
            events -= count
            await asyncio.sleep(rng.uniform(0.0, 2 * pause))

    async def _emit(self, key: str, count: int) -> None:
        changes = self.changes
        flip, switch = changes.flips, changes.switches
        last = await persist(self._cell, Feed(key, count))
        self.windows[key].append(Window(last - count + 1, last, flip, switch))


def _one_key_each(partitions: int) -> Iterable[str]:
    """Return a key of each partition."""
    keys = {partition_of(key_token(f"key-{number}"), partitions): f"key-{number}" for number in range(64 * partitions)}
    return [keys[number] for number in range(partitions)]
