"""Timers as messages of JetStream's scheduler (ADR-51): how they are stored, and taken back or replaced by name."""

from runtime.nats.jetstream.client import JetStream
from runtime.storage.record import Outgoing
from runtime.wire import headers
from runtime.wire.cloudevents import rfc3339
from runtime.wire.subjects import Names, key_token

_ORIGIN = b"Actorloom-Turn"
"""Header: the sequence of the record with which the timer was set. Of two of one name the one with the higher is the later."""


def timer_message(names: Names, entry: Outgoing, origin: int, trace: bytes) -> tuple[str, bytes]:
    """Return subject and header block of a timer, set by the record at `origin`; `trace` has the lines of its trace."""
    waiting = names.schedule(entry.token, key_token(entry.timer))
    target = names.timer(entry.token, key_token(entry.timer))
    # What a process that was paused publishes again, late, is dropped by its id: it may have been taken back meanwhile.
    lines = f"Nats-Msg-Id: {entry.id}\r\nIdempotency-Key: {entry.id}\r\nActorloom-Command: {entry.name}\r\n"
    if entry.kind == "t":
        # It replaces what was to come under this name: a message on behalf of a schedule can end that.
        lines += f"Nats-Scheduler: {waiting}\r\nNats-Schedule-Next: purge\r\n"
        return target, b"NATS/1.0\r\n%b%b\r\n" % (trace, lines.encode())
    when = entry.schedule or f"@at {rfc3339(entry.time)}"
    lines += f"Nats-Schedule: {when}\r\nNats-Schedule-Target: {target}\r\n"
    if entry.zone:
        lines += f"Nats-Schedule-Time-Zone: {entry.zone}\r\n"
    if entry.schedule:
        lines += "Actorloom-Recurring: 1\r\n"
    # Never in the place of another, which is taken back first.
    lines += "Nats-Expected-Last-Subject-Sequence: 0\r\n"
    return waiting, b"NATS/1.0\r\n%b%b%b: %d\r\n\r\n" % (trace, lines.encode(), _ORIGIN, origin)


async def take_back(jetstream: JetStream, names: Names, entry: Outgoing, origin: int, left: set[str]) -> bool:
    """Delete, for good, the timer or schedule of the name that `entry` has; return False where that must stay.

    That is one of those with the ids `left` (`entry`, and what is published after it), stored before, or one that a later
    turn has set: another owner's, of which this process, which was paused, knows nothing. Raises `ApiError`,
    `PublishError` or `TimeoutError`.

    It is purged: one that a newer message has put out of the stream would come back when that has gone, too, and the
    server is killed (2.15.1).
    """
    subject = names.schedule(entry.token, key_token(entry.timer))
    standing = await jetstream.get_last(names.turns_stream, subject)
    if standing is None:
        return True
    if headers.get(standing.headers, headers.IDEMPOTENCY_KEY) in left:
        return False
    later = headers.get(standing.headers, _ORIGIN) or ""
    if later.isdecimal() and int(later) > origin:
        return False
    await jetstream.purge(names.turns_stream, subject, standing.sequence)
    return True
