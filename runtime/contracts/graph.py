"""The graph of services: events, calls and rules between them, and live rates, as nodes and edges.

The order of nodes and edges depends on their names alone, so the same services always give the same graph.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from runtime.admin.discovery import Service
from runtime.contracts.wiring import Request

EdgeKind = Literal["event", "command", "query", "tell", "rule"]
EDGE_KINDS: tuple[EdgeKind, ...] = ("event", "command", "query", "tell", "rule")
"""The kinds of edges, in the order of a legend."""

_ANY_ACTOR, _ANY_EVENT = "any actor", "any event"
"""The node and the message of a reaction to `AnyEvent`. Names of actors and classes have no space in them."""
_CALLS: dict[str, EdgeKind] = {"command": "command", "query": "query", "tell": "tell"}


class Rates(msgspec.Struct, frozen=True):
    """The work of a service in one second, over all of its instances."""

    requests: float
    errors: float
    events: float | None
    """The events that its stream gets; None if that cannot be read."""


class Node(msgspec.Struct, frozen=True, order=True):
    """A service or a rule."""

    name: str
    kind: Literal["service", "outside", "rule"] = "service"
    """``outside`` is a service that others name, and that is not described itself. ``any actor`` stands for all services."""
    description: str = ""
    rates: Rates | None = None


class Edge(msgspec.Struct, frozen=True, order=True):
    """The messages of one kind from one node to another. An event goes from its emitter to the service that reacts."""

    source: str
    target: str
    kind: EdgeKind
    messages: list[str]
    """The names of their classes, sorted."""


class RuleEdge(msgspec.Struct, frozen=True):
    """One event that a rule takes, and the target to which it routes the event."""

    rule: str
    source: str
    """The name of the actor that emits the event."""
    event: str
    """The name of the event's class."""
    target: str
    """The name of the actor or of the target."""
    message: str = ""
    """The name of the command that the target receives; empty for the event itself."""


class Graph(msgspec.Struct, frozen=True):
    """Nodes and edges, sorted. The ends of each edge are among the nodes."""

    nodes: list[Node]
    edges: list[Edge]


def graph_of(
    services: Iterable[Service],
    requests: Iterable[Request] = (),
    rules: Iterable[RuleEdge] = (),
    rates: Mapping[str, Rates] | None = None,
) -> Graph:
    """Return the graph of services. Timers, which a service sends to itself, are no edges.

    Args:
        services: The services, by discovery or from their classes. Several instances of one are one node.
        requests: The commands and queries between them, which only their code tells.
        rules: The events that rules route.
        rates: The live rates by the name of the service.
    """
    found: dict[tuple[str, str, EdgeKind], set[str]] = {}
    rule_names: set[str] = set()
    described = {service.name: service for service in services}
    for service in described.values():
        for reaction in service.metadata.reacts:
            name = reaction.name if reaction.name != "*" else _ANY_EVENT
            found.setdefault((reaction.source or _ANY_ACTOR, service.name, "event"), set()).add(name)
    for each in requests:
        if (kind := _CALLS.get(each.via)) is not None:
            found.setdefault((each.sender, each.receiver, kind), set()).add(each.message)
    for rule in rules:
        name = f"rule {rule.rule}"
        rule_names.add(name)
        found.setdefault((rule.source, name, "rule"), set()).add(rule.event)
        found.setdefault((name, rule.target, "rule"), set()).add(rule.message or rule.event)
    names = {*described, *(end for source, target, _ in found for end in (source, target))}
    nodes = [_node(name, described.get(name), name in rule_names, (rates or {}).get(name)) for name in sorted(names)]
    edges = [Edge(*ends, sorted(messages)) for ends, messages in found.items()]
    return Graph(nodes, sorted(edges, key=lambda edge: (edge.source, edge.target, EDGE_KINDS.index(edge.kind))))


def _node(name: str, service: Service | None, is_rule: bool, rates: Rates | None) -> Node:
    if service is not None:
        return Node(name, "service", service.description, rates)
    return Node(name, "rule" if is_rule else "outside", "", rates)
