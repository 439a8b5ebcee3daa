"""Simulations of the real code with simulated time, as the growth that no test machine has: ``python -m bench simulate``."""

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from runtime.host.placement import follow, place

TICK: Final = 0.25
"""Seconds of a tick: a member looks at the others as often."""
TTL: Final = 16
"""Ticks for which the entry of a member, and a lease, count after the last renewal."""
DRAIN: Final = 1
"""Ticks from the moment at which a partition is given back until its lease is free."""
DELAYS: Final = (0, 3)
"""Ticks after which a member learns of a change at the latest: the members are in groups, by their delay."""
MORE: Final = 1.05
"""Moves for each necessary one, if members learn of a change at different times."""
PATIENCE: Final = 2 * TTL
"""Ticks after which any member takes a partition that is free."""
SLOW: Final = 12
"""Ticks that a change may take, from the moment at which it can be known."""

SIZES: Final = ((8, 8, 60), (8, 64, 60), (100, 64, 40), (1_000, 64, 40))
"""Members at most, partitions, and changes of the membership."""

Rule = Callable[[Collection[str], Mapping[int, str], int], Mapping[int, str]]
"""The code under test: `place`, or a broken one as a control."""


class Change(msgspec.Struct):
    """One change of the membership, and its consequences."""

    kind: str
    members: int
    least: int
    """The moves that balance needs, given the leases at the change."""
    moves: int = 0
    """Partitions that members gave back."""
    ticks: int = 0
    """Ticks until nothing moved any more, since the change could be known."""
    balance: int = 0
    """The largest difference between two members, after it."""


class World:
    """Members, their leases and the view of each group of members, tick by tick.

    A member decides by the view of its group, which has a delay; it knows its own partitions at once. A free lease goes to one of
    the members that want it. A member that is cut off keeps its leases for `TTL`, and knows nothing new.

    Args:
        seed: The seed of all choices.
        partitions: The number of partitions.
        delay: The longest delay with which a member learns of a change, in ticks.
        rule: The code that places the partitions.
    """

    def __init__(self, seed: int, partitions: int, delay: int, rule: Rule = place) -> None:
        self.draw = random.Random(seed)
        self.partitions = partitions
        self.rule = rule
        self.alive: set[str] = set()
        """The members that can act."""
        self.holders: dict[int, str] = {}
        self.moves = 0
        self._groups = delay + 1
        self._now = 0
        self._born = 0
        self._group: dict[str, int] = {}
        self._expiring: dict[str, int] = {}
        """Members that cannot act any more and still count, with the tick at which their entries and leases expire."""
        self._draining: dict[int, int] = {}
        """Partitions that are given back, with the tick at which the lease is free."""
        self._free_since: dict[int, int] = {}
        self._known: list[tuple[frozenset[str], dict[int, str]]] = []
        """The members and holders of the last ticks, newest last."""

    def join(self, count: int) -> None:
        """Add members."""
        for _ in range(count):
            name = f"host-{self._born % 97}-{self._born}"
            self._born += 1
            self.alive.add(name)
            self._group[name] = self.draw.randrange(self._groups)

    def leave(self, count: int) -> None:
        """Remove members that say so, and give back all that they hold."""
        for name in self.draw.sample(sorted(self.alive), count):
            self.alive.remove(name)
            for partition in [each for each, holder in self.holders.items() if holder == name]:
                self._draining.setdefault(partition, self._now + DRAIN)

    def lose(self, count: int) -> list[str]:
        """Kill members, or cut them off: the others see it when their entries and leases expire. Return their names."""
        lost = self.draw.sample(sorted(self.alive), count)
        for name in lost:
            self.alive.remove(name)
            self._expiring[name] = self._now + TTL
        return lost

    def return_(self, names: list[str]) -> None:
        """Let members act again that were cut off."""
        for name in names:
            self._expiring.pop(name, None)
            self.alive.add(name)

    def least_moves(self) -> int:
        """Return the least number of partitions that members must give back for balance."""
        held = Counter(holder for holder in self.holders.values() if holder in self.alive)
        least, more = divmod(self.partitions, len(self.alive))
        kept = sum(min(count, least) for count in held.values())
        return sum(held.values()) - kept - min(more, sum(count > least for count in held.values()))

    def balance(self) -> int:
        """Return the largest difference between the partitions of two members."""
        held = Counter(self.holders.values())
        counts = [held[member] for member in self.alive]
        return max(counts) - min(counts)

    def tick(self) -> bool:
        """Let everything happen that happens in one tick. Return whether the leases have changed."""
        self._now += 1
        before = dict(self.holders)
        for name in [name for name, end in self._expiring.items() if end <= self._now]:
            del self._expiring[name]
            for partition in [each for each, holder in self.holders.items() if holder == name]:
                del self.holders[partition]
                self._draining.pop(partition, None)
        for partition in [each for each, end in self._draining.items() if end <= self._now]:
            del self._draining[partition]
            self.holders.pop(partition, None)
        known = frozenset({*self.alive, *self._expiring}), dict(self.holders)
        self._known = [*self._known, known][-self._groups :]
        wanted = self._decide()
        for partition in range(self.partitions):
            if partition in self.holders:
                self._free_since.pop(partition, None)
            elif wanted.get(partition):
                self.holders[partition] = self.draw.choice(wanted[partition])
            else:
                self._free_since.setdefault(partition, self._now)
        return self.holders != before or bool(self._draining)

    def settle(self, kind: str, least: int, known_in: int = 0) -> Change:
        """Let ticks pass until nothing moves any more."""
        self.moves, start, last = 0, self._now, self._now
        while (
            self._now - last < self._groups + DRAIN + 2 or self._now - start < known_in + self._groups or self._expiring
        ):
            if self.tick():
                last = self._now
            if self._now - start > known_in + 100 * SLOW:
                break
        ticks = max(last - start - known_in, 0)
        return Change(kind, len(self.alive), least, self.moves, ticks, self.balance())

    def _decide(self) -> dict[int, list[str]]:
        """Let each member decide. Return the members that wait for each partition."""
        forsaken = frozenset(each for each, since in self._free_since.items() if self._now - since > PATIENCE)
        views = [self._known[max(len(self._known) - 1 - group, 0)] for group in range(self._groups)]
        placed = [self.rule(members, holders, self.partitions) for members, holders in views]
        wanted: dict[int, list[str]] = {}
        offers: list[int] = []
        for name in sorted(self.alive):
            members, holders = views[self._group[name]]
            follows = placed[self._group[name]]
            mine = {each for each, holder in self.holders.items() if holder == name and each not in self._draining}
            if name not in members or mine != {each for each, holder in holders.items() if holder == name}:
                holders = {each: holder for each, holder in holders.items() if holder != name} | dict.fromkeys(
                    mine, name
                )
                follows = self.rule({*members, name}, holders, self.partitions)
            decision = follow(follows, name, holders, forsaken)
            for partition in decision.take - mine:
                wanted.setdefault(partition, []).append(name)
            offers += decision.offer
        for partition in offers:
            if wanted.get(partition):
                self.moves += 1
                self._draining[partition] = self._now + DRAIN
        return wanted


def careless(members: Collection[str], holders: Mapping[int, str], partitions: int) -> dict[int, str]:
    """Place partitions without regard to their holders: a control, which must move more than is needed."""
    ranked = sorted(members)
    return {partition: ranked[partition % len(ranked)] for partition in range(partitions)}


def simulate(seed: int, members: int, partitions: int, changes: int, delay: int, rule: Rule = place) -> list[Change]:
    """Start members, change the membership again and again, and return each change with its consequences."""
    world = World(seed, partitions, delay, rule)
    draw = world.draw
    world.join(max(members // 2, 1))
    found = [world.settle("first start", 0)]
    for _ in range(changes):
        some = draw.choice((1, 1, 2, max(members // 10, 1)))
        kind = draw.choice(("join", "leave", "kill", "short cut", "long cut"))
        if kind == "join" and len(world.alive) + some > members:
            kind = "leave"
        elif len(world.alive) <= some:
            kind = "join"
        if kind == "join":
            world.join(some)
        elif kind == "leave":
            world.leave(some)
        else:
            lost = world.lose(some)
            if kind != "kill":
                for _ in range(TTL // 2 if kind == "short cut" else 2 * TTL):
                    world.tick()
                world.return_(lost)
        found.append(world.settle(kind, world.least_moves(), TTL if kind == "kill" else 0))
    return found


def show(seed: int, console: Console) -> bool:
    """Run the simulations, print the figures and the goals with their verdicts, and return whether all are met."""
    table = Table(title=f"placement, seed {seed}, ticks of {TICK} s", title_justify="left", title_style="bold")
    columns = ("members", "partitions", "delay", "change", "count", "balance", "moves", "the least", "ticks", "longest")
    for column in columns:
        table.add_column(column, justify="left" if column == "change" else "right")
    found: dict[int, list[list[Change]]] = {}
    for delay in DELAYS:
        found[delay] = []
        for members, partitions, changes in SIZES:
            some = simulate(seed, members, partitions, changes, delay)
            found[delay].append(some)
            for kind in dict.fromkeys(each.kind for each in some):
                figures = _figures(kind, [each for each in some if each.kind == kind])
                table.add_row(str(members), str(partitions), str(delay), *figures)
    console.print(table)
    return _show_goals(found, simulate(seed, 8, 64, 40, 0, careless), console)


def _show_goals(found: Mapping[int, list[list[Change]]], control: list[Change], console: Console) -> bool:
    """Print each goal with its verdict, given the changes of each simulation by delay, and return whether all are met."""
    every = [change for simulated in found.values() for changes in simulated for change in changes]
    balance, longest = max(each.balance for each in every), max(each.ticks for each in every)
    goals = [
        ("largest difference between two members", "≤ 1", f"{balance}", balance <= 1),
        (
            "longest time until nothing moves, since the change could be known",
            f"≤ {SLOW * TICK:g} s",
            f"{longest * TICK:g} s",
            longest <= SLOW,
        ),
    ]
    for delay, simulated in found.items():
        most, share = MORE if delay else 1.0, max(map(_share, simulated))
        name = (
            f"moves, members learn of a change within {delay * TICK:g} s" if delay else "moves, members learn at once"
        )
        goals.append((name, f"≤ {most:.2f} × the least", f"{share:.3f} ×", share <= most))
    name = "moves of the control, which disregards the holders"
    goals.append((name, f"> {MORE:.2f} × the least", f"{_share(control):.2f} ×", _share(control) > MORE))
    table = Table(title="goals", title_justify="left", title_style="bold")
    for column in ("goal", "target", "here", "verdict"):
        table.add_column(column)
    for name, target, here, met in goals:
        table.add_row(name, target, here, "[green]met[/green]" if met else "[red]missed[/red]")
    console.print(table)
    return all(met for *_, met in goals)


def _share(changes: list[Change]) -> float:
    """Return the moves of some changes, relative to the least that balance needs."""
    moves, least = sum(each.moves for each in changes), sum(each.least for each in changes)
    return moves / least if least else 1.0 if moves == 0 else math.inf


def _figures(kind: str, some: list[Change]) -> list[str]:
    ticks = sorted(each.ticks for each in some)
    moves, least = sum(each.moves for each in some), sum(each.least for each in some)
    balance = max(each.balance for each in some)
    return [kind, *map(str, (len(some), balance, moves, least, ticks[len(ticks) // 2], ticks[-1]))]
