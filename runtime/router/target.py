"""Targets: the messages of the actor ``targets``, which keeps them, and of the actor that each target has."""

from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec

from runtime.actor.indexes import Page
from runtime.actor.message import Command, Event, Query
from runtime.errors import Rejected
from runtime.router.http_settings import HttpSettings
from runtime.router.rule import Name

REPLAY_NAME = "replayname"
"""The attribute of CloudEvents that a replayed event has: the name of the replay."""

_DAY = 86_400.0

Attempts = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=604_800)]
Together = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]


class CommandKind(msgspec.Struct, frozen=True, tag="command", tag_field="kind", forbid_unknown_fields=True):
    """A command of an actor. It is in effect once, whatever happens on its way."""

    actor: str
    """The name of the actor."""
    command: str
    """The name of the command's class: ``AddPoints``."""


class EventKind(
    msgspec.Struct, frozen=True, tag="event", tag_field="kind", forbid_unknown_fields=True, omit_defaults=True
):
    """An event of another type. It is stored once within two minutes, and takes effect once in each actor that reacts to it."""

    type: str
    """The CloudEvents type, whose actor has run: ``audit.ShopEventSeen``."""
    namespace: str | None = None
    """The namespace of that actor; None for that of the router, and empty for none."""
    key: str | None = "$key"
    """The path of the key in the event, as in inputs; None for an event without a key."""


class SubjectKind(
    msgspec.Struct, frozen=True, tag="subject", tag_field="kind", forbid_unknown_fields=True, omit_defaults=True
):
    """A subject of NATS. With `stored`, the delivery is done when a stream has stored it; without, when it is sent."""

    subject: str
    """The subject; ``{key}``, ``{source}`` and ``{name}`` stand for those of the event, as tokens of a subject."""
    stored: bool = True


class LogKind(msgspec.Struct, frozen=True, tag="log", tag_field="kind", forbid_unknown_fields=True, omit_defaults=True):
    """A line in the log of the process that delivers."""

    level: str = "info"
    """``debug``, ``info``, ``warning`` or ``error``."""


class HttpKind(HttpSettings, frozen=True, tag="http", tag_field="kind", kw_only=True, forbid_unknown_fields=True):
    """An HTTP endpoint. It gets a delivery at least once, each time with the same id in its idempotency header."""


Kind = CommandKind | EventKind | HttpKind | SubjectKind | LogKind


class TargetFields(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A target as its author writes it."""

    to: Kind
    """The place to which deliveries go."""
    concurrency: Together = 16
    """Deliveries at the same time. Those of one key follow each other."""
    rate: Rate | None = None
    """Deliveries in a second at most; None for no limit."""
    attempts: Attempts = 2000
    """Attempts at a delivery, before it becomes a dead letter: a day of them, with pauses of `longest`."""
    max_age: Seconds = _DAY
    """Seconds after its event was stored at which a delivery becomes a dead letter; a day is the time for which an actor remembers ids."""
    first: Seconds = 0.5
    """Seconds before the second attempt, about. Each further pause is twice as long."""
    longest: Seconds = 60.0
    """Seconds of a pause at most."""
    timeout: Seconds = 30.0
    """Seconds that one attempt may take."""
    description: str = ""


class Target(TargetFields, frozen=True, kw_only=True):
    """A target as it is kept."""

    name: str
    version: int
    """From 1 on; each change adds 1."""
    paused: bool = False
    """Whether its deliveries wait."""
    changed: float = 0.0
    """The time of the last change, in Unix seconds."""
    deleted: bool = False
    """Whether it is deleted. What is left of it keeps its version."""


class TargetConflict(Rejected):
    """The target has another version than the one that the sender expects, or a rule still names it (409)."""


class TargetInvalid(Rejected):
    """A setting of the target is wrong (422). The text names it."""

    code = 422


class PutTarget(Command[Target], actor="targets", key="name"):
    """Create or replace a target. A replaced one stays paused if it was."""

    name: Name
    target: TargetFields
    expect: int | None = None
    """The version that the target must have, 0 for none; None for any."""


class PauseTarget(Command[Target], actor="targets", key="name"):
    """Pause a target: its deliveries wait."""

    name: Name


class ResumeTarget(Command[Target], actor="targets", key="name"):
    """Resume a target: the deliveries that wait go on."""

    name: Name


class DeleteTarget(Command[Target], actor="targets", key="name"):
    """Delete a target that no rule names, and return it. Its dead letters stay."""

    name: Name
    expect: int | None = None


class GetTarget(Query[Target], actor="targets", key="name"):
    """Return a target."""

    name: Name


class ListTargets(Query[Page[Target]], actor="targets"):
    """Return the targets in the order of their names, up to 1000 at once; with `deleted`, those that were deleted."""

    deleted: bool = False
    page: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1000


class TargetChanged(Event, actor="targets", key="name"):
    """A target was created, changed or deleted."""

    name: str
    target: Target
    """The target as it is now; `Target.deleted` if it was deleted."""


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """The event of a delivery.

    Deliveries of a large event have only its place: the copies for all of its targets would not fit one record.
    """

    type: str
    id: str
    source: str
    time: str
    stored: float
    """The time at which it was stored, in Unix seconds."""
    data: Any
    """The fields; None if the event is to be read at its place."""
    key: str | None = None
    extensions: dict[str, str] = {}
    """Its other attributes of CloudEvents."""
    stream: str = ""
    """The stream from which the event is to be read; empty if `data` has its fields."""
    sequence: int = 0
    """Its sequence there."""


class Delivery(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a target gets for one event that a rule matches: the fields of the command ``Deliver`` of its actor."""

    key: str
    """The key of the lane: that of the event, or its id if it has none."""
    rule: str
    version: int
    """That of the rule that has matched."""
    event: Source
    input: Any = None
    """The input of the rule, see `RuleTarget`."""
    hops: int = 1
    """How many deliveries have led here, one after another."""
    replay: str = ""
    """The name of the replay that has sent it; empty for a live event."""


class Condition(msgspec.Struct, frozen=True):
    """How the attempts of a target go, in the process that serves it."""

    state: Literal["on", "busy", "down"]
    """``busy`` while the target has asked to wait, and ``down`` while its circuit is open."""
    failure: str
    """The reason of the last failure, which may be that of one delivery; empty if none has failed since the start of its actor."""
    ago: float
    """Seconds since then."""


@lru_cache(maxsize=4096)
def condition_query(target: str) -> Any:
    """Return the class of the query that the actor of a target answers with its `Condition`."""

    class GetCondition(Query[Condition], actor=actor_of(target), frozen=True):
        """Return how the deliveries of the target go."""

    return GetCondition


def remembered(target: Target) -> float:
    """Return the seconds for which the actor of a target remembers the ids of the deliveries that it has made."""
    return max(_DAY, target.max_age)


def actor_of(target: str) -> str:
    """Return the name of the actor that delivers to a target."""
    return f"target-{target}"
