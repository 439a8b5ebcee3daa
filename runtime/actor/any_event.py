"""An event of any type, as a reaction receives it that reacts to all of them.

A reaction to an `AnyEvent` gets the events of other actors without their classes: those of actors that it does not know, too.
It is for tools, bridges and audits. A service reacts to the class of an event instead, which is checked.
"""

import builtins
from typing import Any, ClassVar, TypeVar

import msgspec

from runtime.actor.message import Contract, Event, codec_of
from runtime.wire.subjects import snake_case

E = TypeVar("E", bound=Event)


class AnyEvent(Event, frozen=True):
    """An event of any type of any actor.

    Its key is the key of a reaction to it, so that the events of one key are handled in order. An event without a key has the key ``""`` there.

    Example:
        @react
        async def on_event(self, event: AnyEvent) -> None:
            logger.info("%s %s: %s", event.type, event.key, event.data)
    """

    __contract__: ClassVar[Contract]

    type: str
    """The CloudEvents type: ``orders.OrderCreated``."""
    id: str
    """The id of the event."""
    source: str
    """The name of the actor that has emitted it: ``orders``."""
    key: str | None
    """The key of the event; None without one."""
    time: str
    """The time of the emit in RFC 3339, in UTC. Of an event without ``ce-time``, the time at which it was stored."""
    data: Any
    """The fields of the event, as decoded JSON."""
    extensions: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    """Its other attributes of CloudEvents, by name in lower case, such as ``dataschema``."""
    stored: float = 0.0
    """The time of the server at which the event was stored, in Unix seconds."""
    stream: str = ""
    """The stream that has the event: ``orders-events``."""
    sequence: int = 0
    """Its sequence there."""

    @property
    def name(self) -> str:
        """The name of the event on the wire: ``order_created``."""
        return snake_case(self.type.rpartition(".")[2])

    def read(self, event: builtins.type[E]) -> E:
        """Return the event as an instance of its class. Raises `CodecError` if the fields do not fit the class."""
        return codec_of(event).decode(msgspec.json.encode(self.data))


def _key_of(event: Any) -> str:
    return event.key or ""


AnyEvent.__contract__ = Contract("event", "", "*", AnyEvent, None, "key", _key_of, (), "*")
"""No actor has it: that is how a reaction to events of any type is recognized."""
