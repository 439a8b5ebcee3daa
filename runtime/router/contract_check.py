"""Checks of a rule against the contracts of the events and of the targets, as the running actors announce them.

Each problem is certain: the rule can never match, or what it sends to a target never fits. An actor that does not run is not judged,
and neither is a message whose contract differs between the processes of its actor.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Final
from weakref import WeakKeyDictionary

from runtime.actor.patterns import Condition, compile_branches
from runtime.admin.discovery import Service, services
from runtime.client.bus import Bus
from runtime.nats.connection import Connection
from runtime.router.fields import unknown_fields
from runtime.router.input_check import check_input
from runtime.router.inputs import Constant, Fields, Node, compile_input
from runtime.router.rule import RuleFields
from runtime.router.target import CommandKind, EventKind, Target
from runtime.wire.schemas import Schema

_FRESH: Final = 1.0
"""Seconds for which the answers of the actors are used."""

_SEEN: WeakKeyDictionary[Connection, tuple[float, list[Service]]] = WeakKeyDictionary()
"""The last answers on each connection, and the time of the loop at which they came."""

_ANY: Final[Schema] = {}
"""The schema of any value: that of a message whose contract is not certain."""


async def problems_of(bus: Bus, rule: RuleFields, targets: Sequence[Target]) -> list[str]:
    """Return why a rule can never match, or never be delivered, as far as the running actors tell.

    Args:
        bus: The bus.
        rule: The rule.
        targets: Its targets, in the order in which the rule names them.

    Returns:
        The problems, each of which begins with the field of the rule.

    Raises:
        PublishError: There is no connection.
    """
    return problems_by(Announced(await _services(bus.connection)), bus.namespace, rule, targets)


def problems_by(found: "Announced", namespace: str, rule: RuleFields, targets: Sequence[Target]) -> list[str]:
    """Return the same as `problems_of`, given the contracts, and the namespace of the rule."""
    judged = _Judged(rule, found, namespace)
    return [*_type_problems(rule, found, namespace), *judged.problems, *_target_problems(rule, targets, judged)]


class Announced:
    """The contracts that running actors announce.

    Args:
        running: The instances of the actors.
    """

    def __init__(self, running: Iterable[Service]) -> None:
        self._events: dict[tuple[str, str], dict[str, Schema]] = {}
        """The schemas of the events by type, by namespace and name of the actor."""
        self._commands: dict[tuple[str, str], dict[str, Schema]] = {}
        for each in running:
            key = each.metadata.namespace, each.name
            if not each.metadata.streams:
                continue  # a service of another framework
            events, commands = self._events.setdefault(key, {}), self._commands.setdefault(key, {})
            for kind, schema in each.metadata.emits.items():
                _add(events, kind, schema)
            for endpoint in each.endpoints:
                if endpoint.metadata.op == "command":
                    for name in endpoint.metadata.types:
                        _add(commands, name, endpoint.metadata.request)

    def events(self, actor: str, namespace: str) -> dict[str, Schema] | None:
        """Return the schemas of the events of an actor by type; None if it does not run."""
        return self._events.get((namespace, actor))

    def commands(self, actor: str, namespace: str) -> dict[str, Schema] | None:
        """Return the schemas of the commands of an actor by the names of their classes; None if it does not run."""
        return self._commands.get((namespace, actor))

    def event(self, type: str, namespace: str) -> Schema | None:
        """Return the schema of an event; None if it is not known."""
        return (self.events(type.rpartition(".")[0], namespace) or {}).get(type)


def _add(known: dict[str, Schema], name: str, schema: Schema | None) -> None:
    known[name] = schema if schema is not None and known.get(name, schema) == schema else _ANY


async def _services(connection: Connection) -> list[Service]:
    now = asyncio.get_running_loop().time()
    seen, found = _SEEN.get(connection, (0.0, None))
    if found is None or now - seen > _FRESH:
        found = await services(connection)
        _SEEN[connection] = asyncio.get_running_loop().time(), found
    return found


def _type_problems(rule: RuleFields, found: Announced, namespace: str) -> Iterator[str]:
    """Yield the types that no running actor emits, those that no source emits, and the sources if none of them emits any event."""
    if not rule.types and rule.sources and all(found.events(each, namespace) == {} for each in rule.sources):
        for number, actor in enumerate(rule.sources):
            yield f"sources[{number}]: {actor} emits no events"
    for number, kind in enumerate(rule.types):
        actor = kind.rpartition(".")[0]
        if (events := found.events(actor, namespace)) is None:
            continue
        if kind not in events:
            yield f"types[{number}]: {actor} emits no {kind}{_hint(kind, events)}"
        elif rule.sources and actor not in rule.sources:
            yield f"types[{number}]: {kind} is an event of {actor}, which is not one of sources"


class _Judged:
    """The events of a rule whose contracts are known, and the problems of its pattern with them.

    Args:
        rule: The rule.
        found: The contracts.
        namespace: The namespace of the rule.
    """

    def __init__(self, rule: RuleFields, found: Announced, namespace: str) -> None:
        self.found = found
        self.namespace = namespace
        self.events, complete = _events_of(rule, found, namespace)
        """The schemas of the events that the rule may match, by type."""
        self.problems: list[str] = []
        """Why the pattern matches no event; empty if it may match one."""
        if rule.where is None or not self.events:
            return
        fatal = {kind: _fatal(rule.where, schema) for kind, schema in self.events.items()}
        self.events = {kind: schema for kind, schema in self.events.items() if not fatal[kind]}
        if complete and not self.events:
            several = len(fatal) > 1
            self.problems = [
                f"where.{text}" + (f" (in {kind})" if several else "")
                for kind, texts in fatal.items()
                for text in texts
            ]


def _events_of(rule: RuleFields, found: Announced, namespace: str) -> tuple[dict[str, Schema], bool]:
    """Return the schemas of the events of a rule by type, as far as they are known, and whether all of them are."""
    if rule.types:
        schemas = {kind: found.event(kind, namespace) for kind in rule.types}
    else:
        actors = [found.events(actor, namespace) for actor in rule.sources]
        if not actors or None in actors:
            return {}, False
        schemas = {kind: schema for events in actors if events is not None for kind, schema in events.items()}
    known = {kind: schema for kind, schema in schemas.items() if schema is not None}
    return known, len(known) == len(schemas)


def _fatal(where: Mapping[str, object], schema: Schema) -> list[str]:
    return [str(problem) for problem in unknown_fields(where, schema) if problem.fatal]


def _target_problems(rule: RuleFields, targets: Sequence[Target], judged: _Judged) -> Iterator[str]:
    for number, (each, target) in enumerate(zip(rule.targets, targets, strict=True)):
        place = f"targets[{number}]"
        message: tuple[str, Schema] | None = None
        match target.to:
            case CommandKind(actor, name):
                known = judged.found.commands(actor, judged.namespace)
                if known is not None and name not in known:
                    yield f"{place}: target {target.name}: {actor} handles no command {name}{_hint(name, known)}"
                elif known is not None:
                    message = f"{actor}.{name}", known[name]
            case EventKind(kind, namespace):
                namespace = judged.namespace if namespace is None else namespace
                actor = kind.rpartition(".")[0]
                known = judged.found.events(actor, namespace)
                if known is not None and kind not in known:
                    yield f"{place}: target {target.name}: {actor} has no event {kind}{_hint(kind, known)}"
                elif known is not None:
                    message = kind, known[kind]
                if namespace == judged.namespace and _takes(rule, kind, each.input):
                    yield f"{place}: target {target.name} emits {kind}, which the rule matches again: a circle"
            case _:
                pass
        if each.input is not None:
            checked = compile_input(each.input, where=f"{place}.input")
        else:
            checked = compile_input("$", where=place)
        yield from map(str, check_input(checked, judged.events, message))


def _takes(rule: RuleFields, type: str, input: object) -> bool:
    """Return whether a rule may match an event of a type that its own input makes."""
    if (rule.types and type not in rule.types) or (rule.sources and type.rpartition(".")[0] not in rule.sources):
        return False
    if rule.where is None:
        return True
    node = compile_input("$" if input is None else input, where="input").node
    return any(all(_may_hold(each, node) for each in branch.values()) for branch in compile_branches(rule.where))


def _may_hold(condition: Condition, node: Node) -> bool:
    """Return whether a condition may hold for what an input makes: only constants, and fields that it lacks, are certain."""
    for name in condition.path.split("."):
        if not isinstance(node, Fields):
            return condition.absent or not isinstance(node, Constant)
        if name not in node.nodes:
            return condition.absent or any("." in each for each in node.nodes)
        node = node.nodes[name]
    if isinstance(node, Fields):
        return condition.absent  # an object is no value
    return not isinstance(node, Constant) or (condition.test is not None and condition.test(node.value))


def _hint(name: str, known: Iterable[str]) -> str:
    """Return the name of the nearest message; the names of actors before the dots are not compared."""
    by_class = {each.rpartition(".")[2]: each for each in known}
    near = get_close_matches(name.rpartition(".")[2], sorted(by_class), 1)
    return f": did you mean {by_class[near[0]]}?" if near else ""
