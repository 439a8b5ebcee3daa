"""The firing of a timer or schedule before its time, as if the server's scheduler had done it.

The stored message is published on its target, without the headers of the scheduler. The server removes a timer that fires once
in the same write, as if it had been due. A schedule stays, and fires at its times as well.
"""

from typing import Final

from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import WrongSequence
from runtime.nats.jetstream.responses import Ack, StoredMessage
from runtime.wire import header_block

TARGET: Final = b"Nats-Schedule-Target"
ONCE: Final = "@at "
"""The beginning of the schedule of a timer that fires once."""

_DROPPED: Final = (b"nats-schedule", b"nats-expected-", b"nats-msg-id", b"nats-ttl", b"nats-rollup")
"""The beginnings of headers, in lower case, that the firing does not have."""


async def fire(jetstream: JetStream, stored: StoredMessage, *, on_time: bool = False) -> Ack | None:
    """Fire a timer or schedule now.

    Args:
        jetstream: The client.
        stored: The waiting message, from the stream of turns.
        on_time: The time of the firing is one of the schedule's own. By default the firing is an additional one: a schedule
            in a time zone has one firing for each of its times, and another one for the same time would have no effect.

    Returns:
        The acknowledgement of the firing. None if the timer does not wait any more: it has fired, or somebody has replaced or
        cancelled it.

    Raises:
        PublishError, TimeoutError: The server does not store the firing, or it is unknown whether it does.
    """
    target = header_block.get(stored.headers, TARGET) or ""
    try:
        return await jetstream.publish(target, stored.payload, headers=_firing(stored, on_time))
    except WrongSequence:
        return None


def _firing(stored: StoredMessage, on_time: bool) -> bytes:
    """Return the header block of a firing."""
    expected = header_block.line(header_block.EXPECTED_SEQUENCE, b"%d" % stored.sequence)
    lines = [expected, header_block.line(header_block.EXPECTED_SUBJECT, stored.subject.encode())]
    if (header_block.get(stored.headers, b"Nats-Schedule") or "").startswith(ONCE):
        lines.append(header_block.line(b"Nats-Scheduler", stored.subject.encode()))
        lines.append(header_block.line(b"Nats-Schedule-Next", b"purge"))
    recurring = header_block.TIMER_RECURRING.lower()
    for each in (stored.headers or b"").split(header_block.END)[1:]:
        name = each.partition(b":")[0].lower()
        if name == recurring and not on_time:
            lines.append(header_block.line(header_block.TIMER_RECURRING, b"1"))
        elif name and not name.startswith(_DROPPED):
            lines.append(each + header_block.END)
    return header_block.join(*lines)
