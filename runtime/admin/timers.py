"""The timers of an actor: those that wait, and those that are due and wait for their owner. They can be fired and dropped.

Both changes name the sequence of the message that they were made for. So they are safe beside an owner, which may cancel or replace
the timer at that moment.
"""

from datetime import datetime

import msgspec

from runtime.admin.stored import StoredActor
from runtime.nats.jetstream.responses import StoredMessage
from runtime.storage.firing import fire
from runtime.wire import header_block
from runtime.wire.subjects import Names
from runtime.wire.tokens import NO_KEY, key_token, readable_key

_AT = "@at "


class StoredTimer(msgspec.Struct, frozen=True):
    """A timer, a schedule, or a long job that waits."""

    key: str | None
    """The key that has set it; None for an actor without state."""
    name: str
    """Its name, unique within the key. For a long job, it is the id of the job."""
    command: str
    """The class name of the command that it sends."""
    is_due: bool
    """Whether it has fired, or is a long job, and waits for its owner. A firing that runs is one of these, too."""
    time: float | None
    """Unix seconds: when it is due, or has fired. None for a schedule, whose next time the server does not tell."""
    schedule: str
    """The pattern of a schedule; empty if it fires once."""
    zone: str
    id: str
    """Its id; for a schedule the first part of the ids of its firings."""
    trace: str | None
    """The trace in which it was set: 32 hex digits."""
    body: bytes
    """The body of the command."""
    message: StoredMessage
    names: Names
    """The names of its partition."""


async def find_timers(actor: StoredActor, token: str | None = None, name: str | None = None) -> list[StoredTimer]:
    """Return timers in the order of their times; schedules come last.

    Args:
        actor: The actor.
        token: The token of the key that has set them; None for those of all keys.
        name: Their name; None for any.

    Raises:
        CodecError: The name is too long.
        ApiError, TimeoutError: A stream cannot be read now.
    """
    parts = actor.parts if token is None else [actor.part(token)]
    # A repartition has not moved all of them yet.
    for names in actor.names.partitions(actor.layout.before):
        if await actor.jetstream.find_stream(names.turns_stream) is not None:
            parts = [*parts, names]
    wanted = token or "*", "*" if name is None else key_token(name)
    subjects = [
        (names, subject)
        for names in parts
        for subject_filter in (names.schedule(*wanted), names.timer(*wanted))
        for subject in await actor.jetstream.subjects(names.turns_stream, subject_filter)
    ]
    timers = [_timer(names, stored) async for names, stored in actor.read(subjects)]
    return sorted(timers, key=lambda each: (each.time is None, each.time or 0.0, each.key or "", each.name))


async def fire_timer(actor: StoredActor, timer: StoredTimer) -> bool:
    """Fire a waiting timer now; see `runtime.storage.firing`. Return False if it does not wait any more.

    Raises:
        PublishError, TimeoutError: The server refuses it, or does not answer.
    """
    return await fire(actor.jetstream, timer.message) is not None


async def drop_timer(actor: StoredActor, timer: StoredTimer) -> bool:
    """Delete a timer. Return False if there is none, or only one that was set later.

    Raises:
        ApiError, TimeoutError: The server refuses it, or does not answer.
    """
    stream, message = timer.names.turns_stream, timer.message
    if await actor.jetstream.get(stream, message.sequence) is None:
        return False
    await actor.jetstream.purge(stream, message.subject, message.sequence)
    return True


def _timer(names: Names, stored: StoredMessage) -> StoredTimer:
    kind, token, name = stored.subject.removeprefix(f"{names.own}.").split(".", 2)
    headers = {name.lower(): value for name, value in header_block.parse(stored.headers).items()}
    pattern = headers.get("nats-schedule", "")
    is_due, repeats = kind == "timer", not pattern.startswith(_AT)
    return StoredTimer(
        key=None if token == NO_KEY else readable_key(token),
        name=readable_key(name),
        command=headers.get(header_block.TIMER_COMMAND.decode().lower(), ""),
        is_due=is_due,
        time=stored.time if is_due else None if repeats else _at(pattern),
        schedule=pattern if repeats else "",
        zone=headers.get("nats-schedule-time-zone", ""),
        id=headers.get(header_block.IDEMPOTENCY_KEY.decode().lower(), ""),
        trace=header_block.trace_id(stored.headers),
        body=stored.payload,
        message=stored,
        names=names,
    )


def _at(pattern: str) -> float | None:
    try:
        return datetime.fromisoformat(pattern.removeprefix(_AT)).timestamp()
    except ValueError:
        return None
