"""Events of any type: a delivery becomes an `AnyEvent`."""

from typing import Any, Protocol

import msgspec

from runtime.actor.any_event import AnyEvent
from runtime.wire import header_block
from runtime.wire.cloudevents import extensions, opened, rfc3339
from runtime.wire.subjects import snake_case
from runtime.wire.tokens import NO_KEY, readable_key

_decode: Any = msgspec.json.Decoder().decode


class Received(Protocol):
    """The parts of a delivery, or of a message in a stream, that an event is read from."""

    @property
    def headers(self) -> bytes | None: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def time(self) -> float: ...


def read_any(delivery: Received, event_id: str, payload: bytes, origin: tuple[str, str, int]) -> AnyEvent:
    """Return the event of a delivery.

    Args:
        delivery: The delivery, or the message in a stream.
        event_id: The id of the event.
        payload: Its data, as JSON.
        origin: The subject on which the event was published, its stream, and its sequence there.

    Raises:
        DecodeError: The data is not JSON. So does an exception of `UNDECODABLE`.
    """
    subject, stream, sequence = origin
    source, _, name, token = subject.split(".")[-4:]
    structured = opened(delivery.headers, delivery.payload)[0]
    if structured is None:
        found = header_block.get(delivery.headers, b"ce-type")
        time = header_block.get(delivery.headers, b"ce-time")
    else:
        found, time = structured.type, structured.time
    stored = delivery.time
    return AnyEvent(
        type=_type(found or "", source, name),
        id=event_id,
        source=source,
        key=None if token == NO_KEY else readable_key(token),
        time=time or rfc3339(stored),
        data=_decode(payload),
        extensions=extensions(delivery.headers, delivery.payload),
        stored=stored,
        stream=stream,
        sequence=sequence,
    )


def _type(text: str, source: str, name: str) -> str:
    """Return the type of an event: `text`, if it is that of the subject. A publisher without CloudEvents gives none."""
    actor, _, kind = text.rpartition(".")
    if actor == source and snake_case(kind) == name:
        return text
    return f"{source}.{''.join(part.capitalize() for part in name.split('_'))}"
