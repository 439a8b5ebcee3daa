"""The actors that the linter judges, those beside them, and their events, as its checks need them."""

import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import msgspec

from runtime.actor.base import Actor
from runtime.actor.message import Contract, Event
from runtime.contracts.reading import ANY_MODULE, Mention, Reading
from runtime.contracts.source import Definition, Module, Place, Sources
from runtime.contracts.wiring import Wired, wiring


class Finding(msgspec.Struct, frozen=True, order=True):
    """A mistake at a line of a file."""

    file: str
    """The path, relative to the working directory for a file below it."""
    line: int
    code: str
    text: str


class Scope:
    """The actors of one run of the linter, and their code. The arguments are those of `runtime.contracts.linter.lint`."""

    def __init__(
        self,
        actors: Iterable[type[Actor[Any]]],
        beside: Iterable[type[Actor[Any]]],
        packages: Iterable[str],
        extra_readers: frozenset[str],
    ) -> None:
        judged = list(dict.fromkeys(actors))
        others = [each for each in dict.fromkeys(beside) if each not in judged]
        self.extra_readers = extra_readers
        self.sources = Sources(packages)
        self.judged: list[Wired] = wiring(judged, self.sources)
        self.all: list[Wired] = [*self.judged, *wiring(others, self.sources)]
        self.names = {each.name for each in self.all if each.place is not None}
        """The actors whose code is there."""
        self.judged_names = {each.name for each in self.judged}

    @cached_property
    def modules(self) -> list[Module]:
        """The modules of all actors, and those that they import."""
        modules = {cls.__module__ for each in self.all for cls in each.actor.__mro__}
        return self.sources.closure(sorted(modules))

    @cached_property
    def complete(self) -> bool:
        """Whether the code of each actor is there to which one of these reacts or sends a message."""
        used = {event.__contract__.actor for each in self.judged for event in each.actor.handlers.reactions}
        used.discard("")  # Any code may emit an `AnyEvent`.
        used |= {sent.contract.actor for each in self.judged for found in each.sent.values() for sent in found}
        return used <= self.names

    @cached_property
    def events(self) -> list[Contract]:
        """The events that the judged actors own, as `modules` define them."""
        found = [
            value.__contract__
            for module in self.modules
            for value in self.sources.values(module)
            if isinstance(value, type) and issubclass(value, Event) and hasattr(value, "__contract__")
        ]
        return [contract for contract in found if contract.actor in self.judged_names]

    def mentions(self, contract: Contract) -> list[Mention]:
        """Return the mentions of an event in all code that may emit it: all but the classes of other actors."""
        found = [each for wired in self.all for each in wired.emitted if each.contract is contract]
        return [*found, *(each for each in self._loose if each.contract is contract and each.via != "events")]

    def is_looked_up(self, contract: Contract) -> bool:
        """Return whether code that may emit an event may find its class by a name that is known when it runs only."""
        code = [reading for wired in self.all if wired.name == contract.actor for reading in wired.readings]
        return _look_up([*code, *self._outside], contract)

    def is_followed(self, contract: Contract) -> bool:
        """Return whether a program among the modules reads an event by the `events` of its bus, or may do so."""
        named = [each for each in self._loose if each.contract is contract]
        if any(each.via == "events" for each in named):
            return True
        # `bus.events(kind)`: each class that is passed on may be the one.
        passed = any("events" in reading.passed for reading in self._outside)
        return passed and (any(each.call is None for each in named) or _look_up(self._outside, contract))

    def place(self, value: Any) -> Place | None:
        """Return the line of a class or function; None if there is no source of it."""
        return self.sources.place(value)

    def reading(self, module: Module, node: Definition) -> Reading:
        """Return the mentions of a definition."""
        return Reading(self.sources, module, [node])

    @cached_property
    def _loose(self) -> list[Mention]:
        """The mentions in the modules outside of the classes of actors."""
        return [mention for reading in self._outside for mention in reading.mentions]

    @cached_property
    def _outside(self) -> list[Reading]:
        """The code of the modules outside of the classes of actors."""
        return list(self._read_outside())

    def _read_outside(self) -> Iterator[Reading]:
        for module in self.modules:
            actors = {each.actor.__qualname__ for each in self.all if each.actor.__module__ == module.name}
            nodes = [node for node in module.tree.body if getattr(node, "name", None) not in actors]
            yield Reading(self.sources, module, nodes)


def _look_up(readings: Iterable[Reading], contract: Contract) -> bool:
    """Return whether code looks up names in a module that has a message, or in a package with such a module."""
    names = {name for reading in readings for name in reading.modules}
    origin = contract.type.__module__
    return any(
        name == ANY_MODULE
        or f"{origin}.".startswith(f"{name}.")
        or (name in sys.modules and any(each is contract.type for each in vars(sys.modules[name]).values()))
        for name in names
    )
