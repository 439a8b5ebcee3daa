"""The actor ``router``: it tells the targets of each event that a rule matches.

The event and its deliveries are one turn: they are stored together, and the event is acknowledged after that. The id of a
delivery is derived from the event, the rule and the target, so that whatever routes the event again routes it to the same ids.
An event that no rule matches costs no turn.
"""

import msgspec
from opentelemetry.trace import get_current_span

from runtime.actor.any_command import AnyCommand
from runtime.actor.any_event import AnyEvent
from runtime.actor.base import Actor
from runtime.actor.decorators import query, react
from runtime.actor.message import Query
from runtime.client.bus import Bus
from runtime.host.host import call_when_owning
from runtime.options import Options, RetryPolicy
from runtime.router.hops import hops
from runtime.router.ruleset import Match, Ruleset
from runtime.router.target import Delivery, Source, actor_of
from runtime.telemetry import semconv
from runtime.wire.ids import derived_id

_IN_FORCE_TIMEOUT = 2.0
"""Seconds for which `GetInForce` waits for a version."""


_MOST_COPIED = 256 * 1024
"""Bytes of the fields of an event that its deliveries have together at most. A record holds all of them, and is one message of NATS."""


class Routed(msgspec.Struct, frozen=True):
    """The state of a key: nothing is kept. The record has the ids of the events that were routed."""


class GetInForce(Query[int], actor="router", key="key"):
    """Return the version of a rule that the owner of a key has in force, as soon as it is `version`, or after two seconds."""

    key: str
    rule: str
    version: int = 0


class Router(Actor[Routed]):
    """Routes the events of all actors to the targets of the rules that match them."""

    name = "router"
    options = Options(retry=RetryPolicy(attempts=1000, longest=5.0))

    async def on_start(self) -> None:
        """Read the rules."""
        self.rules = Ruleset(Bus.of(self))
        await self.rules.start()
        # The rules of a process that has owned nothing were never asked for: they may be late.
        call_when_owning(self, self.rules.doubt)

    async def on_stop(self) -> None:
        """Follow the rules no more."""
        await self.rules.stop()

    def wants(self, event: AnyEvent) -> bool:
        """Return whether a rule matches an event. Called before its turn."""
        return self.rules.doubtful or bool(self.rules.matches(event))

    @react(where=wants)
    async def on_event(self, event: AnyEvent) -> None:
        """Tell the targets of the rules that match an event."""
        if self.rules.doubtful:
            await self.rules.confirm()
        found = self.rules.matches(event)
        source, number = source_of(event, len(found)), hops() + 1
        for match in found:
            self._route(source, match, number)
        span = get_current_span()
        if span.is_recording():
            span.set_attribute(semconv.RULES_MATCHED, [f"{each.rule.name} > {each.target.target}" for each in found])

    @query
    async def get_in_force(self, message: GetInForce) -> int:
        """Return the version of a rule that is in force here, as soon as it is the one that is wanted."""
        return await self.rules.wait_version(message.rule, message.version, _IN_FORCE_TIMEOUT)

    def _route(self, event: Source, match: Match, number: int) -> None:
        rule, target = match
        delivery = Delivery(
            key=event.id if event.key is None else event.key,
            rule=rule.name,
            version=rule.version,
            event=event,
            input=target.input,
            hops=number,
        )
        message = AnyCommand(actor_of(target.target), "Deliver", delivery, delivery.key)
        self.tell(message, id=delivery_id(event.id, rule.name, target.target))


def source_of(event: AnyEvent, deliveries: int) -> Source:
    """Return an event for a number of deliveries: its place alone, if the copies of its fields would be too large together."""
    size = len(msgspec.json.encode(event.data)) * deliveries
    whole = size <= _MOST_COPIED
    return Source(
        type=event.type,
        id=event.id,
        source=event.source,
        time=event.time,
        stored=event.stored,
        data=event.data if whole else None,
        key=event.key,
        extensions=event.extensions,
        stream="" if whole else event.stream,
        sequence=0 if whole else event.sequence,
    )


def delivery_id(event: str, rule: str, target: str, replay: str = "") -> str:
    """Return the id of a delivery: of an event, by a rule, to a target. A replay that delivers again has ids of its own."""
    return derived_id(event, 1, rule, target, replay)
