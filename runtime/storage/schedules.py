"""Timers as messages of JetStream's scheduler (ADR-51): how they are stored, and taken back or replaced by name."""

from runtime.nats.jetstream.client import JetStream
from runtime.storage.record import Outgoing
from runtime.wire import header_block
from runtime.wire.cloudevents import rfc3339
from runtime.wire.subjects import Names, key_token


def timer_message(names: Names, entry: Outgoing, origin: int, trace: bytes) -> tuple[str, bytes]:
    """Return subject and header block of a timer, set by the record at `origin`; `trace` has the lines of its trace."""
    waiting = names.schedule(entry.token, key_token(entry.timer))
    target = names.timer(entry.token, key_token(entry.timer))
    # What a process that was paused publishes again, late, is dropped by its id: it may have been taken back meanwhile.
    headers = [
        (header_block.MESSAGE_ID, entry.id),
        (header_block.IDEMPOTENCY_KEY, entry.id),
        (header_block.TIMER_COMMAND, entry.name),
    ]
    if entry.kind == "t":
        # It replaces what was to come under this name: a message on behalf of a schedule can end that.
        headers += [(b"Nats-Scheduler", waiting), (b"Nats-Schedule-Next", "purge")]
        return target, _block(trace, headers)
    when = entry.schedule or f"@at {rfc3339(entry.time)}"
    headers += [(b"Nats-Schedule", when), (b"Nats-Schedule-Target", target)]
    if entry.zone:
        headers.append((b"Nats-Schedule-Time-Zone", entry.zone))
    if entry.schedule:
        headers.append((header_block.TIMER_RECURRING, "1"))
    # Never in the place of another, which is taken back first.
    headers += [(header_block.EXPECTED_SEQUENCE, "0"), (header_block.TIMER_TURN, str(origin))]
    return waiting, _block(trace, headers)


def _block(trace: bytes, headers: list[tuple[bytes, str]]) -> bytes:
    return header_block.join(trace, *(header_block.line(name, value.encode()) for name, value in headers))


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
    if header_block.get(standing.headers, header_block.IDEMPOTENCY_KEY) in left:
        return False
    later = header_block.get(standing.headers, header_block.TIMER_TURN) or ""
    if later.isdecimal() and int(later) > origin:
        return False
    await jetstream.purge(names.turns_stream, subject, standing.sequence)
    return True
