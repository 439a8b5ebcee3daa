"""The wiring of actors as their code has it: which handler sends and emits which messages.

The code of a handler is its method, the methods of the actor that it calls, and the functions, classes and constants of the
application that these use, in any module. Whether a line is reached at run time is not asked: a message that is made somewhere
in this code counts as sent.
"""

from collections.abc import Iterable, Iterator
from types import FunctionType
from typing import Any, NamedTuple

import msgspec

from runtime.actor.base import Actor
from runtime.actor.handler import Handler
from runtime.actor.message import Contract
from runtime.contracts.reading import Mention, Reading
from runtime.contracts.source import Definition, Module, Place, Sources

_LATER = ("tell", "remind", "schedule")
"""The methods that send a command for which the handler does not wait."""


class Sent(NamedTuple):
    """A command or query in the code of a handler."""

    contract: Contract
    place: Place
    via: str
    """The method that sends it: ``command``, ``query``, ``tell``, ``remind`` or ``schedule``."""
    waits: bool
    """Whether the handler certainly waits for the reply."""


class Wired(NamedTuple):
    """One actor and the messages in its code."""

    actor: type[Actor[Any]]
    place: Place | None
    """The line of the class; None if there is no source of it."""
    sent: dict[str, list[Sent]]
    """The commands and queries of each handler, by the name of the operation or reaction."""
    emitted: list[Mention]
    """The events of this actor in its code."""
    readings: list[Reading]
    """Its code."""

    @property
    def name(self) -> str:
        """The name of the actor."""
        return self.actor.name


def wiring(actors: Iterable[type[Actor[Any]]], sources: Sources) -> list[Wired]:
    """Return the wiring of actors, in their order. An actor without a source sends and emits nothing."""
    return [_Code(actor, sources).wired() for actor in actors]


def handlers_of(actor: type[Actor[Any]]) -> dict[str, list[Handler]]:
    """Return the handlers of an actor by the name of the operation or reaction."""
    found: dict[str, list[Handler]] = {}
    for handler in actor.handlers.all():
        found.setdefault(handler.name if handler.verb == "react" else handler.contract.name, []).append(handler)
    return found


class _Code:
    """The code of one actor."""

    def __init__(self, actor: type[Actor[Any]], sources: Sources) -> None:
        self._actor = actor
        self._sources = sources
        self._methods: dict[str, list[tuple[Module, Definition]]] = {}
        self._body: list[tuple[Module, Any]] = []
        for cls in actor.__mro__:
            if (found := sources.definition(cls)) is not None:
                module, definition = found
                for statement in definition.body:
                    if isinstance(statement, Definition):
                        self._methods.setdefault(statement.name, []).append((module, statement))
                    else:
                        self._body.append((module, statement))

    def wired(self) -> Wired:
        actor = self._actor
        sent = {name: self._sent_by(handlers) for name, handlers in sorted(handlers_of(actor).items())}
        readings = self._reach(self._methods)
        emitted = [
            mention
            for reading in readings
            for mention in reading.mentions
            if mention.contract.op == "event" and mention.contract.actor == actor.name and mention.via != "events"
        ]
        return Wired(actor, self._sources.place(actor), sent, emitted, readings)

    def _sent_by(self, handlers: list[Handler]) -> list[Sent]:
        readings = self._reach(["on_message", *(handler.method for handler in handlers)])
        return sorted(_sent(readings), key=lambda sent: (sent.place, sent.via, sent.contract.type_name))

    def _reach(self, methods: Iterable[str]) -> list[Reading]:
        """Return the readings of methods and of all code that they use. Each statement is read once."""
        found: list[Reading] = []
        seen: set[int] = set()
        waiting = [*self._body, *self._named(methods)]
        for cls in self._actor.state_classes:
            waiting += self._defined(cls)
        while waiting:
            module, node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            reading = Reading(self._sources, module, [node])
            found.append(reading)
            waiting += self._named(reading.attributes)
            for reference in reading.references:
                waiting += self._defined(reference)
            for name in reading.constants:
                waiting += self._sources.statements(module, name)
        return sorted(found, key=lambda reading: reading.module.name)

    def _named(self, names: Iterable[str]) -> Iterator[tuple[Module, Definition]]:
        for name in names:
            yield from self._methods.get(name, ())

    def _defined(self, value: type | FunctionType) -> Iterator[tuple[Module, Definition]]:
        if isinstance(value, type) and issubclass(value, Actor):
            return  # other code of the application
        if (found := self._sources.definition(value)) is not None:
            yield found


def _sent(readings: list[Reading]) -> Iterator[Sent]:
    passed = {name for reading in readings for name in reading.passed}
    later = next((name for name in _LATER if name in passed), "")
    for reading in readings:
        for contract, place, via, _ in reading.mentions:
            if contract.op == "event" or via == "events":
                continue
            if via:
                yield Sent(contract, place, via, via == contract.op)
            elif contract.op in passed:
                yield Sent(contract, place, contract.op, not later)
            else:
                yield Sent(contract, place, later or contract.op, waits=False)


class Request(msgspec.Struct, frozen=True, order=True):
    """A request from one actor to another, as the code has it."""

    sender: str
    receiver: str
    message: str
    """The name of the class: ``ChargeCard``."""
    via: str
    """The method that sends it: ``command``, ``query``, ``tell``, ``remind`` or ``schedule``."""


def calls(wired: Iterable[Wired]) -> list[Request]:
    """Return the commands and queries between actors, sorted and without duplicates."""
    return sorted(
        {
            Request(each.name, sent.contract.actor, sent.contract.type.__name__, sent.via)
            for each in wired
            for found in each.sent.values()
            for sent in found
        }
    )
