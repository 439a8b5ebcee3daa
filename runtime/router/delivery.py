"""Deliveries: the actor of a target sends what the target gets, in the order of each key.

A delivery that fails is tried again in its lane, and becomes a dead letter with the whole event after the last attempt, or as soon
as another attempt cannot help. The deliveries of a target that is down wait in its own stream.
"""

from functools import lru_cache
from typing import Any

import msgspec

from runtime.actor.base import Actor
from runtime.actor.decorators import command
from runtime.actor.message import Command
from runtime.client.bus import Bus
from runtime.errors import Rejected
from runtime.options import Options, RetryPolicy
from runtime.router.hops import MOST_HOPS, hop
from runtime.router.inputs import Input, InputError, Occurrence, compile_input
from runtime.router.senders import Parcel, Sender, make_sender
from runtime.router.target import Source, Target, actor_of

_DEAD_ID = "Dead-Id"
"""The header of a redriven dead letter."""
_DAY = 86_400.0


class Delivered(msgspec.Struct, frozen=True):
    """The state of a key: nothing is kept. The record has the ids of the deliveries that are done."""


class Undeliverable(Rejected):
    """A delivery that no further attempt can make."""


def delivery_actor(target: Target) -> type[Actor[Any]]:
    """Return the class of the actor that delivers to a target with the settings that it has now."""
    command_class = _message(actor_of(target.name))

    class Deliveries(Actor[Delivered]):
        __doc__ = target.description or f"Delivers to the target {target.name}."
        name = actor_of(target.name)
        options = Options(
            concurrency=target.concurrency,
            remember=max(_DAY, target.max_age),
            timeout=target.timeout,
            retry=RetryPolicy(
                attempts=target.attempts, first=target.first, longest=target.longest, unserved=target.max_age
            ),
        )

        async def on_start(self) -> None:
            self.sender: Sender = make_sender(target, Bus.of(self))
            await self.sender.start()

        async def on_stop(self) -> None:
            await self.sender.stop()

        @command(by_id=True)
        async def deliver(self, message: command_class) -> None:  # pyright: ignore[reportInvalidTypeForm, reportUnknownParameterType]
            """Send what the target gets."""
            await _deliver(self, target, message)

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
    event: Source = message.event
    if message.hops > MOST_HOPS:
        raise Undeliverable(
            f"rule {message.rule}: {MOST_HOPS} deliveries have led to this event: the rules form a circle"
        )
    limited = not message.replay and _DEAD_ID not in actor.headers
    if limited and actor.now - event.stored > target.max_age:
        raise Undeliverable(f"the event is older than max_age = {target.max_age:g} s")
    occurrence = Occurrence(_attributes(event), event.data, event.key, message.rule, target.name)
    try:
        made = compiled(msgspec.json.encode(message.input), message.rule, target.name)
        body = event.data if made is None else made.make(occurrence)
    except InputError as error:
        raise Undeliverable(str(error)) from None
    parcel = Parcel(actor.message_id, event, body, made is None, occurrence)
    with hop(message.hops):
        await actor.sender.send(actor, parcel)


@lru_cache(maxsize=4096)
def compiled(text: bytes, rule: str, target: str) -> Input | None:
    """Return the input of a rule for a target, given its JSON; None for the fields of the event."""
    if text == b"null":
        return None
    return compile_input(msgspec.json.decode(text), where=f"rule {rule}, target {target}: input")


def _attributes(event: Source) -> dict[str, object]:
    found: dict[str, object] = {
        "specversion": "1.0",
        "id": event.id,
        "source": f"/{event.source}",
        "type": event.type,
        "time": event.time,
        "datacontenttype": "application/json",
    }
    return found if event.key is None else {**found, "subject": event.key}
