"""Whether a rule matches an event, and if not, why; and the input that each target gets."""

from typing import Any

import msgspec

from runtime.actor.any_event import AnyEvent
from runtime.router.delivery import compiled, occurrence_of
from runtime.router.explain import explain
from runtime.router.inputs import InputError
from runtime.router.rule import Rule, RuleFields
from runtime.router.target import Source
from runtime.wire.cloudevents import rfc3339


class Reason(msgspec.Struct, frozen=True):
    """The first reason why a rule does not match an event."""

    field: str
    """The field of the rule: ``enabled``, ``types``, ``sources``, ``since`` or ``where``."""
    text: str
    """The reason as a sentence. Of ``where``, it names the field of the event."""

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"


class Made(msgspec.Struct, frozen=True):
    """The input of one target, or the reason why it cannot be made, so that the delivery becomes a dead letter."""

    target: str
    input: Any = None
    fault: str = ""
    """Empty if the input is made."""


def reason_against(rule: RuleFields, event: AnyEvent) -> Reason | None:
    """Return the first reason why a rule does not match an event; None if it matches.

    Args:
        rule: The rule. One that is not kept is compared by its fields only.
        event: The event.
    """
    if (reason := reason_against_type(rule, event.type, event.source)) is not None:
        return reason
    if isinstance(rule, Rule) and event.stored < rule.since:
        return Reason(
            "since",
            f"the event was stored at {rfc3339(event.stored)}, and the rule matches those stored from {rfc3339(rule.since)} on",
        )
    if rule.where is not None and (mismatch := explain(rule.where, event.data)) is not None:
        return Reason("where", str(mismatch))
    return None


def reason_against_type(rule: RuleFields, type: str, source: str) -> Reason | None:
    """Return the first reason why a rule matches no event of a type and source; None if it may match one."""
    if not rule.enabled:
        return Reason("enabled", "the rule is disabled")
    if rule.types and type not in rule.types:
        return Reason("types", f"the event is {type}, and the rule takes {', '.join(rule.types)}")
    if rule.sources and source not in rule.sources:
        return Reason("sources", f"the event is from {source}, and the rule takes those from {', '.join(rule.sources)}")
    return None


def inputs_of(rule: RuleFields, name: str, event: AnyEvent) -> list[Made]:
    """Return the input that each target of a rule gets for an event, in the order of the targets.

    Args:
        rule: The rule.
        name: Its name.
        event: The event.
    """
    source = Source(
        event.type, event.id, event.source, event.time, event.stored, event.data, event.key, event.extensions
    )
    made: list[Made] = []
    for each in rule.targets:
        try:
            form = compiled(msgspec.json.encode(each.input), name, each.target)
            value = event.data if form is None else form.make(occurrence_of(source, name, each.target))
            made.append(Made(each.target, value))
        except InputError as error:
            made.append(Made(each.target, fault=str(error)))
    return made
