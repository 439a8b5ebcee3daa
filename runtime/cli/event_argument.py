"""The argument ``--event`` of `rules test` and `rules who`: an event as JSON, from a file, from stdin or from a stream.

JSON is the fields of the event, or a CloudEvent in the structured mode, as `actorloom tap --json` prints it.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from runtime.actor.any_event import AnyEvent
from runtime.admin.discovery import services
from runtime.cli.failures import NOT_FOUND, Failure, usage
from runtime.cli.payload import json_value
from runtime.client.bus import Bus
from runtime.errors import CodecError
from runtime.intake.any_events import read_any
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import ApiError, ErrorCode
from runtime.wire.cloudevents import opened, received_id, rfc3339
from runtime.wire.codec import UNDECODABLE
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names, published

_ATTRIBUTES = frozenset({"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "data"})
"""The names in a CloudEvent that are no extensions."""

_PLACE = re.compile(r"([A-Za-z0-9_-]+):([0-9]{1,18})").fullmatch


async def read_event(bus: Bus, text: str, type: str | None, key: str | None) -> AnyEvent:
    """Return the event that ``--event`` names. Another text ends the command.

    Args:
        bus: The bus.
        text: The value of ``--event``.
        type: The type of the event, if its JSON has none; None if it is not given, and empty if it does not matter.
        key: The key of the event; None to read it from the field that its actor announces.
    """
    if found := _PLACE(text):
        return await _stored(bus, found[1], int(found[2]))
    value = _value(text)
    if isinstance(value, dict) and "specversion" in value:
        return _cloud_event(bus, cast("dict[str, Any]", value), type)
    if type is None:
        usage("--type: give the type of the event, such as orders.OrderCreated: its fields alone do not have one")
    now = bus.connection.clock.now()
    if key is None and type:
        key = await _key(bus, type, value)
    return AnyEvent(type, new_id(now), type.rpartition(".")[0], key, rfc3339(now), value, stored=now)


def _value(text: str) -> object:
    """Return the decoded JSON of an argument, of stdin or of a file."""
    try:
        if text == "-":
            data = sys.stdin.buffer.read()
        elif text.lstrip()[:1] in ("{", "["):
            data = text
        else:
            data = Path(text).read_bytes()
    except OSError as error:
        usage(f"--event: {text[:80]}: {error.strerror}; write JSON, a file, STREAM:SEQUENCE, or - for stdin")
    return json_value(data, "--event: it is not JSON")


def _cloud_event(bus: Bus, value: Mapping[str, Any], type: str | None) -> AnyEvent:
    text = {name: value.get(name) for name in ("type", "id", "time", "subject")}
    wrong = next((name for name, each in text.items() if each is not None and not isinstance(each, str)), None)
    if wrong is not None:
        usage(f"--event: {wrong} of a CloudEvent is a text")
    kind = type or text["type"] or type
    if kind is None:
        usage("--event: the CloudEvent has no type: give --type")
    now = bus.connection.clock.now()
    time = text["time"] or rfc3339(now)
    data = value.get("data", {})
    extensions = {name: each for name, each in value.items() if name not in _ATTRIBUTES and isinstance(each, str)}
    return AnyEvent(
        kind,
        text["id"] or new_id(now),
        kind.rpartition(".")[0],
        text["subject"],
        time,
        data,
        extensions,
        now,
    )


async def _key(bus: Bus, type: str, value: object) -> str | None:
    """Return the key of an event, from the field that its actor announces; None if the actor does not run, or it has none."""
    for each in await services(bus.connection, type.rpartition(".")[0]):
        metadata = each.metadata.events.get(type)
        if each.metadata.namespace == bus.namespace and metadata is not None and metadata.key:
            for name in metadata.key.split("."):
                value = cast("dict[str, object]", value).get(name) if isinstance(value, dict) else None
            return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    return None


async def _stored(bus: Bus, stream: str, sequence: int) -> AnyEvent:
    prefix = Names("x", bus.namespace).stream_prefix
    stream = stream if stream.startswith(prefix) else prefix + stream
    try:
        stored = await JetStream(bus.connection).get(stream, sequence)
    except ApiError as error:
        if error.err_code != ErrorCode.STREAM_NOT_FOUND:
            raise
        raise Failure(f"--event: there is no stream {stream}", NOT_FOUND) from None
    if stored is None:
        raise Failure(f"--event: stream {stream} has no message {sequence}", NOT_FOUND)
    if stored.subject.split(".")[-4:-3] != ["event"]:
        raise Failure(f"--event: {stream}:{sequence} is not an event", NOT_FOUND)
    structured, payload, undecodable = opened(stored.headers, stored.payload)
    event_id = received_id(stored.headers, structured) or f"{stream}:{sequence}"
    try:
        if undecodable is not None:
            raise undecodable
        return read_any(stored, event_id, payload, (published(stored.subject), stream, sequence))
    except (*UNDECODABLE, CodecError) as error:
        raise Failure(f"--event: {stream}:{sequence} cannot be read: {error}", NOT_FOUND) from None
