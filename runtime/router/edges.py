"""The rules as edges of the graph of services."""

from collections.abc import Iterable, Iterator

from runtime.contracts.graph import RuleEdge
from runtime.router.rule import Rule
from runtime.router.target import CommandKind, EventKind, Target

ANY = "*"
"""The name of an actor or an event in an edge, if the rule takes all of them."""


def rule_edges(rules: Iterable[Rule], targets: Iterable[Target]) -> Iterator[RuleEdge]:
    """Yield an edge for each type of events and each target of the rules that are enabled.

    A target is the actor that gets its commands or whose event it emits; a target of another kind has the name ``target mail``.

    Args:
        rules: The rules.
        targets: The targets that are kept.
    """
    ends = {target.name: _end(target) for target in targets}
    for rule in rules:
        if not rule.enabled:
            continue
        taken = rule.types or [f"{source}.{ANY}" for source in rule.sources or (ANY,)]
        for each_type in taken:
            source, _, event = each_type.rpartition(".")
            for each in rule.targets:
                if each.target in ends:
                    yield RuleEdge(rule.name, source, event, *ends[each.target])


def _end(target: Target) -> tuple[str, str]:
    """Return the node of a target, and the name of its command or event."""
    match target.to:
        case CommandKind():
            return target.to.actor, target.to.command
        case EventKind():
            actor, _, name = target.to.type.rpartition(".")
            return actor, name
        case _:
            return f"target {target.name}", ""
