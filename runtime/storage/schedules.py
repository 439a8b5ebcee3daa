"""Timers as messages of JetStream's scheduler (NATS ADR-51): how they are stored, and how they are taken back by name.

A timer that waits is a message on ``<actor>.schedule.<key>.<name>``. When it is due, the server publishes its body on
``<actor>.timer.<key>.<name>``, from where it is delivered.

**One timer for each name.** A turn may set a timer again or cancel it. The older message must then be deleted: it is
*taken back*. An overwritten one would not do, since nats-server 2.15.1 restores it if the newer message is deleted and
the server is killed. So a timer is stored with an expected sequence of 0, and if that is refused, the timer that has the
name is taken back first.

**Two owners.** A former owner that was paused may still publish an old outbox while the next owner has already set a
timer of the same name. It must not delete that one. Purging any message under the name, as the first version did, lost
timers: the next owner had published one, the former owner purged it to store its own copy, and was then stopped. So each
timer carries the sequence of the record that set it. The timer with the higher sequence is the later one, and stays.
"""

from typing import NamedTuple

from runtime.actor.schedules import meant_time
from runtime.errors import PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import INVALID_SCHEDULE_CODES, ErrorCode
from runtime.storage.record import TIMER, Outgoing
from runtime.wire import header_block
from runtime.wire.cloudevents import rfc3339
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token, token_of


class Firing(NamedTuple):
    """One firing of a timer that repeats, or of a timer whose message has no id."""

    id: str
    due: float
    """The time for which it was meant, in Unix seconds."""


def firing_of(names: Names, timer_id: str | None, sequence: int, time: float, recurring: str = "") -> Firing:
    """Return the id of a firing, and the time for which it was meant.

    The id is the sequence of the firing in the stream of `names`. The streams of different layouts have equal sequences, and a
    timer goes from one to the other. So the id names the partition as well, or a new firing would pass for one that was handled.
    The id of a schedule in a time zone is its local time instead, since the server repeats it on some days
    (`runtime.actor.schedules.meant_time`).

    Args:
        names: The names of the partition in whose stream the timer has fired.
        timer_id: The id of the timer; None if it has none.
        sequence: The sequence of the firing.
        time: The time at which it was stored, in Unix seconds.
        recurring: The header `Actorloom-Recurring`, which has the zone and the pattern of a schedule in a time zone.
    """
    if timer_id is None:
        return Firing(f"{names.turns_stream}:{sequence}", time)
    zone, _, pattern = recurring.partition(" ")
    if pattern and (meant := meant_time(pattern, zone, time)) is not None:
        return Firing(f"{timer_id}:{meant.name}", meant.time)
    total, number = names.partition
    return Firing(f"{timer_id}:{sequence}" if total == 1 else f"{timer_id}:p{total}-{number}:{sequence}", time)


def recurring_header(pattern: str, zone: str) -> str:
    """Return the header `Actorloom-Recurring` of a schedule: its zone and its pattern, or 1 for one without a zone."""
    return f"{zone} {pattern}" if zone else "1"


def timer_token(name: str) -> str:
    """Return the name of a timer, or the id of a long job, as a token: that of no recurring command, whatever the caller has chosen."""
    token = key_token(name)
    return f"%40{token[1:]}" if token.startswith("@") else token


def timer_subject(names: Names, entry: Outgoing) -> str:
    """Return the subject on which a timer is published; `entry` is of kind `TIMER` or `SCHEDULE`."""
    name = timer_token(entry.timer)
    return names.timer(entry.token, name) if entry.kind is TIMER else names.schedule(entry.token, name)


def timer_headers(names: Names, entry: Outgoing, origin: int, trace: bytes) -> bytes:
    """Return the header block of a timer.

    Args:
        names: The names of the actor.
        entry: An entry of kind `TIMER` or `SCHEDULE`.
        origin: The sequence of the record that set the timer.
        trace: The header lines of its trace context.
    """
    schedule = names.schedule(entry.token, timer_token(entry.timer))
    target = names.timer(entry.token, timer_token(entry.timer))
    headers = [
        # If a paused process publishes the timer again, the server drops it by this id: it may have been taken back.
        (header_block.MESSAGE_ID, entry.id),
        (header_block.IDEMPOTENCY_KEY, entry.id),
        (header_block.TIMER_COMMAND, entry.name),
    ]
    if entry.kind is TIMER:
        # Published as if by the scheduler, which makes the server delete the waiting timer of this name.
        headers += [(b"Nats-Scheduler", schedule), (b"Nats-Schedule-Next", "purge")]
        return _block(trace, headers)
    when = entry.schedule or f"@at {rfc3339(entry.time)}"
    headers += [(b"Nats-Schedule", when), (b"Nats-Schedule-Target", target)]
    if entry.zone:
        headers.append((b"Nats-Schedule-Time-Zone", entry.zone))
    if entry.schedule:
        headers.append((header_block.TIMER_RECURRING, recurring_header(entry.schedule, entry.zone)))
    # Refused if a timer of this name waits. That one is taken back first.
    headers += [(header_block.EXPECTED_SEQUENCE, "0"), (header_block.TIMER_TURN, str(origin))]
    return _block(trace, headers)


def told_name(tell_id: str) -> str:
    """Return the name of the timer of a command by `tell` that is set aside, as a token. No other timer has one with ``@tell:``."""
    return f"@tell:{token_of(tell_id)}"


def told_headers(
    names: Names, token: str, name: str, block: bytes | None, command: str, tell_id: str, due: float
) -> bytes:
    """Return the header block of the timer of a command by `tell` that is set aside.

    Args:
        names: The names of the actor.
        token: The key of the command as a token.
        name: The name of the timer as a token.
        block: Its header block before. Its trace and its own headers stay.
        command: The class name of the command.
        tell_id: The id of the command.
        due: The time at which it fires, in Unix seconds.
    """
    dropped = {header_block.DUE, header_block.TIMER_COMMAND, header_block.IDEMPOTENCY_KEY}
    own = [
        each + header_block.END
        for each in (block or b"").split(header_block.END)[1:]
        if each and not each.lower().startswith(b"nats-") and each.partition(b":")[0] not in dropped
    ]
    return _block(
        b"".join(own),
        [
            (header_block.IDEMPOTENCY_KEY, tell_id),
            (header_block.TIMER_COMMAND, command),
            (b"Nats-Schedule", f"@at {rfc3339(due)}"),
            (b"Nats-Schedule-Target", names.timer(token, name)),
            # One that waits already is this one.
            (header_block.EXPECTED_SEQUENCE, "0"),
        ],
    )


async def find_refusal(jetstream: JetStream, names: Names, entry: Outgoing) -> PublishError | None:
    """Return the error with which the server refuses a schedule, before a waiting timer of its name is deleted for it.

    The turn has checked the schedule, but the server may know other time zones. The message names an id that is not that of
    the last message. nats-server looks at the schedule first, and refuses a valid one because of the id.

    Raises:
        PublishError, TimeoutError: The server cannot be asked now.
    """
    target = names.timer(entry.token, timer_token(entry.timer))
    headers = [(b"Nats-Schedule", entry.schedule), (b"Nats-Schedule-Target", target)]
    if entry.zone:
        headers.append((b"Nats-Schedule-Time-Zone", entry.zone))
    headers.append((b"Nats-Expected-Last-Msg-Id", f"{entry.id}.none"))
    subject = names.schedule(entry.token, timer_token(entry.timer))
    try:
        await jetstream.publish(subject, b"", headers=_block(b"", headers))
    except PublishError as error:
        if error.err_code in INVALID_SCHEDULE_CODES:
            return error
        if error.err_code != ErrorCode.WRONG_LAST_MESSAGE_ID:
            raise
    return None


async def take_back(jetstream: JetStream, names: Names, entry: Outgoing, origin: int, own_ids: set[str]) -> bool:
    """Delete the waiting timer that has the name of an entry, unless it must stay.

    It stays if it is the entry itself or a later entry of the same outbox, stored by an earlier attempt, or if a later turn
    has set it. That turn may be one of another owner, of which this process knows nothing because it was paused.

    Args:
        jetstream: The client.
        names: The names of the actor.
        entry: The entry, whose timer is to be cancelled or set.
        origin: The sequence of the record that introduced the entry.
        own_ids: The ids of the entry and of everything behind it in the outbox.

    Returns:
        Whether the name is free now. If not, the entry needs no publish.

    Raises:
        ApiError, PublishError, TimeoutError: The stream cannot be asked now.
    """
    subject = names.schedule(entry.token, timer_token(entry.timer))
    waiting = await jetstream.get_last(names.turns_stream, subject)
    if waiting is None:
        return True
    if header_block.get(waiting.headers, header_block.IDEMPOTENCY_KEY) in own_ids:
        return False
    set_by = header_block.number(header_block.get(waiting.headers, header_block.TIMER_TURN))
    if set_by is not None and set_by > origin:
        return False
    await jetstream.purge(names.turns_stream, subject, waiting.sequence)
    return True


def _block(trace: bytes, headers: list[tuple[bytes, str]]) -> bytes:
    return header_block.join(trace, *(header_block.line(name, value.encode()) for name, value in headers))
