"""Rules: the messages of the actor ``rules``, which keeps them."""

from typing import Annotated, Any

import msgspec

from runtime.actor.indexes import Page
from runtime.actor.message import Command, Event, Query
from runtime.errors import Rejected

Name = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_-]{0,63}$")]
"""A lower-case letter, and then letters, digits, ``-`` and ``_``: at most 64 characters."""

MOST_TARGETS = 100
"""Targets that a rule may have."""


class RuleTarget(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A target of a rule, and the input that it gets."""

    target: Name
    """The name of the target."""
    input: Any = None
    """The input as JSON with paths, see `runtime.router.inputs`; None for the fields of the event as they are."""


class RuleFields(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A rule as its author writes it."""

    targets: Annotated[list[RuleTarget], msgspec.Meta(min_length=1, max_length=MOST_TARGETS)]
    """The targets, each of which has its name once."""
    sources: list[Name] = []
    """The actors whose events match; empty for all."""
    types: list[str] = []
    """The types of the events, such as ``orders.OrderCreated``; empty for all."""
    where: dict[str, Any] | None = None
    """The content pattern, see `runtime.actor.patterns`; None for events of any content."""
    enabled: bool = True
    description: str = ""


class Rule(RuleFields, frozen=True, kw_only=True):
    """A rule as it is kept."""

    name: str
    version: int
    """From 1 on; each change adds 1."""
    since: float
    """The rule matches events that were stored from this time on, in Unix seconds: five seconds before it was put, or last enabled.

    An event that was stored shortly before, and is not routed yet, matches it or not. The five seconds are those by which two
    clocks may differ, so that no event is missed that was emitted after the rule was in force."""
    changed: float
    """The time of the last change, in Unix seconds."""
    deleted: bool = False
    """Whether it is deleted. What is left of it keeps its version, so that a rule of this name that is put later has a higher one."""


class RuleConflict(Rejected):
    """The rule has another version than the one that the sender expects (409)."""


class RuleInvalid(Rejected):
    """The rule can never match, or never be delivered (422). The text names the field."""

    code = 422


class PutRule(Command[Rule], actor="rules", key="name"):
    """Create or replace a rule."""

    name: Name
    rule: RuleFields
    expect: int | None = None
    """The version that the rule must have, 0 for none; None for any."""
    unchecked: bool = False
    """True to put the rule although the contracts of events and targets do not fit it."""


class EnableRule(Command[Rule], actor="rules", key="name"):
    """Enable a rule. It matches events from then on."""

    name: Name
    expect: int | None = None


class DisableRule(Command[Rule], actor="rules", key="name"):
    """Disable a rule. Events that are emitted while it is disabled do not match it later."""

    name: Name
    expect: int | None = None


class DeleteRule(Command[Rule], actor="rules", key="name"):
    """Delete a rule, and return it."""

    name: Name
    expect: int | None = None


class GetRule(Query[Rule], actor="rules", key="name"):
    """Return a rule."""

    name: Name


class ListRules(Query[Page[Rule]], actor="rules"):
    """Return the rules in the order of their names, up to 1000 at once; with `deleted`, those that were deleted."""

    deleted: bool = False
    page: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1000


class RuleChanged(Event, actor="rules", key="name"):
    """A rule was created, changed or deleted."""

    name: str
    rule: Rule
    """The rule as it is now; `Rule.deleted` if it was deleted."""
