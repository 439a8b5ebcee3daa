"""The way of a replayed event to the targets of the rules that match it."""

from collections.abc import Awaitable, Callable

import msgspec

from runtime.actor.any_event import AnyEvent
from runtime.admin.replay.reading import Found
from runtime.nats.jetstream.client import JetStream
from runtime.router.hops import hops
from runtime.router.replay.matching import Matcher
from runtime.router.routing import delivery_id, source_of
from runtime.router.target import Delivery
from runtime.storage.replays import Replay, ReplayedRule
from runtime.telemetry import NO_SPAN, attached
from runtime.wire import header_block
from runtime.wire.cloudevents import opened
from runtime.wire.subjects import Names
from runtime.wire.tells import tell_headers
from runtime.wire.tokens import key_token

_TRACE = (header_block.TRACEPARENT, header_block.TRACESTATE, header_block.BAGGAGE)


class ToTargets:
    """Tells the actors of targets to deliver events, as the router does, for the rules and targets of one replay.

    Args:
        jetstream: The client.
        namespace: The namespace.
        replay: The replay.
    """

    def __init__(self, jetstream: JetStream, namespace: str, replay: Replay) -> None:
        self.namespace = namespace
        self._jetstream = jetstream
        self._matcher = Matcher(replay.rules, replay.key)
        self._names = {actor: Names(actor, namespace) for actor in replay.actors}

    def sending(self, replay: Replay, found: Found) -> Callable[[], Awaitable[None]] | None:
        """Return a function that sends the deliveries of an event; None if no rule matches it."""
        matched = self._matcher.find(replay.sources[found.source], found.stored)
        return None if matched is None else lambda: self._send(replay, found, *matched)

    async def count_waiting(self) -> int:
        """Return the deliveries that the targets have not made, live ones included: they are deleted when they are made."""
        found = [await self._jetstream.find_stream(names.tells_stream) for names in self._names.values()]
        return sum(info.state.messages for info in found if info is not None)

    async def _send(self, replay: Replay, found: Found, event: AnyEvent, rules: list[ReplayedRule]) -> None:
        structured, _, _ = opened(found.stored.headers, found.stored.payload)
        headers = found.stored.headers if structured is None else structured.block(found.stored.headers)
        trace = b"".join(
            header_block.line(name, each) for name in _TRACE for each in header_block.values(headers, name)
        )
        with attached(NO_SPAN, headers):
            number = hops() + 1
        source = source_of(event, 1)
        for rule in rules:
            for target in rule.targets:
                delivery = Delivery(
                    key=event.id if event.key is None else event.key,
                    rule=rule.name,
                    version=rule.version,
                    event=source,
                    input=target.input,
                    hops=number,
                    replay=replay.name,
                )
                again = replay.name if replay.mode == "again" else ""
                await self._tell(target.actor, delivery, delivery_id(event.id, rule.name, target.target, again), trace)

    async def _tell(self, actor: str, delivery: Delivery, id: str, trace: bytes) -> None:
        """Store a delivery as `Bus.tell` would. The trace of the event goes on without a span of this program."""
        body = msgspec.json.encode(delivery)
        headers = tell_headers(actor, "Deliver", id, body, 0.0, trace)
        subject = self._names[actor].tell("deliver", key_token(delivery.key))
        await self._jetstream.publish(subject, body, headers=headers)
