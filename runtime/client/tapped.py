"""An event as a tap shows it: its attributes, its body and its headers, whatever its type is."""

from typing import Any, Final

import msgspec

from runtime.nats.jetstream.responses import StoredMessage
from runtime.wire import header_block
from runtime.wire.cloudevents import Structured, extensions, is_structured, opened, received_id, unix_time
from runtime.wire.codec import UNDECODABLE
from runtime.wire.subjects import Names, published
from runtime.wire.tokens import NO_KEY, readable_key

_decode: Final = msgspec.json.Decoder().decode


class TappedEvent(msgspec.Struct, frozen=True):
    """An event of any type, as it is stored."""

    type: str
    """The CloudEvents type: ``orders.OrderCreated``."""
    id: str
    """The id of the event; ``<stream>:<sequence>`` if its publisher gave none."""
    key: str | None
    """The key; None for an event without one."""
    source: str
    """The CloudEvents source: ``/orders``."""
    time: float
    """Unix seconds of the emit; those at which the server stored the event if its publisher gave none that is valid."""
    trace: str
    """The id of its trace, 32 hex digits; empty without a trace."""
    body: Any
    """The decoded JSON; None if `fault` is not empty."""
    headers: dict[str, str]
    """The headers of the message. In structured mode, ``traceparent`` is that of the body if the message has none."""
    subject: str
    """The subject on which it was published."""
    stream: str
    """The stream that stores it."""
    sequence: int
    """Its sequence there."""
    payload: bytes
    """The body as it was sent."""
    fault: str = ""
    """Why the body cannot be read; empty if it can."""
    extensions: dict[str, str] = {}
    """The other attributes of CloudEvents, by name in lower case, such as ``replayname`` and ``dataschema``."""


def read_tapped(stored: StoredMessage, names: Names) -> TappedEvent:
    """Return an event of the stream of an actor. This never raises: an event that cannot be read has a `fault`."""
    event, payload, error = opened(stored.headers, stored.payload)
    body: Any = None
    if error is None:
        try:
            body = _decode(payload)
        except UNDECODABLE as undecodable:
            error = undecodable
    block = stored.headers if event is None else event.block(stored.headers)
    subject = published(stored.subject)
    name, _, token = subject.removeprefix(names.events("")).partition(".")
    time = unix_time(_attribute(block, b"ce-time") if event is None else event.time or "")
    return TappedEvent(
        type=event.type if event is not None else _attribute(block, b"ce-type") or f"{names.actor}.{name}",
        id=received_id(block, event) or f"{names.events_stream}:{stored.sequence}",
        key=None if token == NO_KEY else readable_key(token),
        source=event.source if event is not None else _attribute(block, b"ce-source") or f"/{names.actor}",
        time=stored.time if time is None else time,
        trace=header_block.trace_id(block) or "",
        body=body,
        headers=header_block.parse(block),
        subject=subject,
        stream=names.events_stream,
        sequence=stored.sequence,
        payload=payload if error is None else stored.payload,
        fault="" if error is None else str(error),
        extensions=_extensions(stored, event),
    )


def _extensions(stored: StoredMessage, event: Structured | None) -> dict[str, str]:
    """Return the other attributes; none if they cannot be read. `event` is None in binary mode, and if it cannot be read."""
    if event is None and is_structured(stored.headers):
        return {}
    try:
        return extensions(stored.headers, stored.payload)
    except UNDECODABLE:
        return {}


def _attribute(block: bytes | None, name: bytes) -> str:
    return header_block.get(block, name) or ""
