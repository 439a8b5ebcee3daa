"""Deliveries: the actor of a target sends what the target gets, in the order of each key.

A delivery that fails is tried again in its lane, and becomes a dead letter with the whole event after the last attempt, or as soon
as another attempt cannot help. The deliveries of a target that is down wait in its own stream.
"""

import math
from functools import lru_cache
from typing import Any

import msgspec
from opentelemetry.trace import get_current_span

from runtime.actor.base import Actor
from runtime.actor.decorators import command, query
from runtime.actor.message import Command
from runtime.backoff import Backoff
from runtime.client.bus import Bus
from runtime.errors import DeadlineExceeded, NotDelivered, Overloaded, PublishError, Rejected, RequestError, Retry
from runtime.faults import error_text
from runtime.nats.jetstream.client import JetStream
from runtime.options import Options, RetryPolicy
from runtime.router.gate import Gate, GateLimits
from runtime.router.hops import MOST_HOPS, hop
from runtime.router.inputs import Input, InputError, Occurrence, compile_input
from runtime.router.outcomes import Again, Permanent
from runtime.router.parcel import Parcel, Sender
from runtime.router.senders import make_sender
from runtime.router.target import REPLAY_NAME, Condition, Source, Target, actor_of, condition_query, remembered
from runtime.telemetry import semconv
from runtime.wire.cloudevents import opened

_DEAD_ID = "Dead-Id"
"""The header of a redriven dead letter."""
_DOWN = (NotDelivered, Overloaded, DeadlineExceeded, PublishError)
"""The failures that count for the circuit of a target: others may be those of one delivery."""


class Kept(msgspec.Struct, frozen=True):
    """The state of a key: nothing is kept. The record has the ids of the deliveries that are done."""


class Undeliverable(Rejected):
    """A delivery that no further attempt can make."""


def delivery_actor(target: Target) -> type[Actor[Any]]:
    """Return the class of the actor that delivers to a target with the settings that it has now."""
    command_class, query_class = _message(actor_of(target.name)), condition_query(target.name)

    class Deliveries(Actor[Kept]):
        __doc__ = target.description or f"Delivers to the target {target.name}."
        name = actor_of(target.name)
        options = Options(
            concurrency=target.concurrency,
            limit=math.inf,  # a delivery may wait at the gate for long; each sender has a timeout
            slow=0,
            remember=remembered(target),
            timeout=target.timeout,
            retry=RetryPolicy(
                attempts=target.attempts, first=target.first, longest=target.longest, unserved=target.max_age
            ),
        )

        async def on_start(self) -> None:
            self.gate = Gate(GateLimits(target.concurrency, target.rate, pause=Backoff(1.0, min(30.0, target.longest))))
            self.jetstream = JetStream(Bus.of(self).connection)
            self.sender: Sender = make_sender(target, Bus.of(self))
            await self.sender.start()

        async def on_stop(self) -> None:
            await self.sender.stop()

        async def whole(self, event: Source) -> Source:
            """Return an event with its fields."""
            return await _read(self.jetstream, event) if event.stream else event

        @command(by_id=True)
        async def deliver(self, message: command_class) -> None:  # pyright: ignore[reportInvalidTypeForm, reportUnknownParameterType]
            """Send what the target gets."""
            await _deliver(self, target, message)

        @query
        async def get_condition(self, message: query_class) -> Condition:  # pyright: ignore[reportInvalidTypeForm, reportUnknownParameterType]
            """Return how the deliveries of the target go."""
            return self.gate.condition()

    return Deliveries


@lru_cache(maxsize=4096)
def _message(actor: str) -> Any:
    """Return the class of the command that the actor of a target handles. Its fields are those of `Delivery`."""

    class Deliver(Command[None], actor=actor, key="key", frozen=True):
        """Deliver an event to the target."""

        key: str
        rule: str
        version: int
        event: Source
        input: Any = None
        hops: int = 1
        replay: str = ""

    return Deliver


async def _deliver(actor: Any, target: Target, message: Any) -> None:
    event: Source = await actor.whole(message.event)
    if message.replay:
        event = msgspec.structs.replace(event, extensions={**event.extensions, REPLAY_NAME: message.replay})
        get_current_span().set_attribute(semconv.REPLAY, message.replay)
    if message.hops > MOST_HOPS:
        raise Undeliverable(
            f"rule {message.rule}: {MOST_HOPS} deliveries have led to this event: the rules form a circle"
        )
    occurrence = occurrence_of(event, message.rule, target.name)
    gate: Gate = actor.gate
    async with gate.attempt():
        _check_age(actor, target, message)
        try:
            made = compiled(msgspec.json.encode(message.input), message.rule, target.name)
            body = event.data if made is None else made.make(occurrence)
            with hop(message.hops):
                outcome = await actor.sender.send(actor, Parcel(actor.message_id, event, body, occurrence))
        except InputError as error:
            raise Undeliverable(str(error)) from None
        except TimeoutError as error:  # of the server, or of the connection to it: no fault of the code
            outcome = Again(error_text(error) or "no answer within the timeout")
        except _DOWN as error:
            gate.record(Again(str(error)))
            raise
        except RequestError as error:  # of this delivery only: its command fails, or is to be sent later
            gate.note(str(error))
            raise
        gate.record(outcome)
    if isinstance(outcome, Permanent):
        raise Undeliverable(outcome.reason)
    if isinstance(outcome, Again):
        raise Retry(f"target {target.name}: {outcome.reason}", outcome.after)


async def _read(jetstream: JetStream, event: Source) -> Source:
    """Return a large event with its fields, which are read at its place. Raises `Undeliverable` if it is not there any more."""
    try:
        stored = await jetstream.get(event.stream, event.sequence)
    except TimeoutError as error:
        raise Retry(f"the event {event.id} cannot be read now: {error_text(error)}") from None
    if stored is None:
        raise Undeliverable(f"the event {event.id} is not stored any more: {event.stream}, sequence {event.sequence}")
    _, payload, error = opened(stored.headers, stored.payload)
    if error is not None:
        raise Undeliverable(f"the event {event.id}: {error}")
    return msgspec.structs.replace(event, data=msgspec.json.decode(payload))


def _check_age(actor: Any, target: Target, message: Any) -> None:
    """Raise `Undeliverable` for an event that is too old. A redriven or replayed one may be."""
    if message.replay or _DEAD_ID in actor.headers:
        return
    if actor.now - message.event.stored > target.max_age:
        raise Undeliverable(f"the event is older than max_age = {target.max_age:g} s")


@lru_cache(maxsize=4096)
def compiled(text: bytes, rule: str, target: str) -> Input | None:
    """Return the input of a rule for a target, given its JSON; None for the fields of the event."""
    if text == b"null":
        return None
    return compile_input(msgspec.json.decode(text), where=f"rule {rule}, target {target}: input")


def occurrence_of(event: Source, rule: str, target: str) -> Occurrence:
    """Return the values that the paths of an input find, for an event that a rule sends to a target."""
    attributes: dict[str, object] = {
        **event.extensions,
        "specversion": "1.0",
        "id": event.id,
        "source": f"/{event.source}",
        "type": event.type,
        "time": event.time,
        "datacontenttype": "application/json",
    }
    if event.key is not None:
        attributes["subject"] = event.key
    return Occurrence(attributes, event.data, event.key, rule, target)
