"""A whole record for people: the messages that its key remembers, and the events and timers that may be unpublished."""

from collections.abc import Iterable
from typing import Any

import msgspec

from runtime.admin.stored import StoredActor, StoredRecord, published_until
from runtime.storage.record import CANCEL, EVENT, SCHEDULE, TIMER, Handled, Outgoing, record_fields
from runtime.wire import header_block
from runtime.wire.cloudevents import rfc3339
from runtime.wire.tokens import readable_key

_KINDS = {EVENT: "event", TIMER: "timer, due", SCHEDULE: "timer", CANCEL: "cancellation"}

_entries = msgspec.json.Decoder(list[Handled]).decode


async def view_record(actor: StoredActor, found: StoredRecord) -> dict[str, Any]:
    """Return the fields of a record as values of JSON, without its state.

    ``remembered`` has the handled messages, oldest first, those that have left the record included. ``outbox`` has the entries
    that may be unpublished. Fields of a newer version of this package are as they are stored.

    Raises:
        ApiError, TimeoutError: The stream cannot be read now.
    """
    fields: dict[str, Any] = {**record_fields(found.message.payload)}
    for name in ("state", "state_version", "handled", "outbox"):
        fields.pop(name, None)
    published = found.message.sequence <= await published_until(actor.jetstream, found.names)
    fields["remembered"] = _remembered([*await _moved_out(actor, found), *found.record.handled])
    fields["outbox"] = [] if published else [_outgoing(entry) for entry in found.record.outbox]
    return fields


async def _moved_out(actor: StoredActor, found: StoredRecord) -> list[Handled]:
    """Return the handled messages of a key that have left its record."""
    names = found.names
    token = found.message.subject.removeprefix(names.turn(""))
    subjects = await actor.jetstream.subjects(names.turns_stream, f"{names.own}.dedup.{token}.>")
    entries: list[Handled] = []
    async for _, stored in actor.read([(names, subject) for subject in subjects]):
        entries += _entries(stored.payload)
    return entries


def _remembered(entries: Iterable[Handled]) -> list[dict[str, Any]]:
    once = {entry.id: entry for entry in entries}  # one that leaves the record is in both for a while
    return [
        {"id": entry.id, "time": _time(entry.time), "reply": entry.reply, "fingerprint": entry.fingerprint}
        for entry in sorted(once.values(), key=lambda each: each.time)
    ]


def _outgoing(entry: Outgoing) -> dict[str, Any]:
    shown = {
        "kind": _KINDS[entry.kind],
        "id": entry.id,
        "name": entry.name,
        "key": readable_key(entry.token).encode(errors="backslashreplace").decode(),
        "time": _time(entry.time),
        "trace": header_block.trace_id(header_block.join(entry.trace.encode())),
        "body": entry.body,
    }
    timer = {"timer": entry.timer, "schedule": entry.schedule, "zone": entry.zone}
    return shown | {name: text for name, text in timer.items() if text}


def _time(seconds: float) -> str | None:
    """Return Unix seconds as RFC 3339; None for a time that has no such form."""
    try:
        return rfc3339(seconds)
    except (OverflowError, ValueError, OSError):
        return None
