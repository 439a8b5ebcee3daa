"""The firing of a waiting timer before its time, by a tool or a test: it publishes what the server's scheduler would publish.

A timer that fires once is removed by the same write that stores its firing. A schedule stays.

The owner may cancel or replace a timer between the read and the firing. The server would then store an old command, and remove the
new timer of that name. So a firing carries the sequence of the schedule that it was made from, and is refused if that is not the
newest one.
"""

from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import WrongSequence
from runtime.nats.jetstream.responses import StoredMessage
from runtime.wire import header_block

_TARGET = b"Nats-Schedule-Target"


def firing_message(stored: StoredMessage) -> tuple[str, bytes]:
    """Return the subject and the header block of the firing of a waiting timer. Its body is that of the timer.

    Args:
        stored: The message on ``<actor>.schedule.<key>.<name>``.
    """
    schedule, left_out = stored.subject.encode(), (b"nats-", header_block.TIMER_RECURRING.lower() + b":")
    lines = [
        each + header_block.END
        for each in (stored.headers or b"").split(header_block.END)[1:]
        if each and not each.lower().startswith(left_out)
    ]
    if header_block.get(stored.headers, header_block.TIMER_RECURRING) is not None:
        # With its time zone, the firing would have the id of the latest regular one.
        lines.append(header_block.line(header_block.TIMER_RECURRING, b"1"))
    else:
        lines += [header_block.line(b"Nats-Scheduler", schedule), header_block.line(b"Nats-Schedule-Next", b"purge")]
    lines += [
        header_block.line(header_block.EXPECTED_SEQUENCE, b"%d" % stored.sequence),
        header_block.line(b"Nats-Expected-Last-Subject-Sequence-Subject", schedule),
    ]
    return header_block.get(stored.headers, _TARGET) or "", header_block.join(*lines)


async def fire(jetstream: JetStream, stored: StoredMessage) -> bool:
    """Fire a waiting timer now, beside its owner or without one.

    Args:
        jetstream: The client.
        stored: The message on ``<actor>.schedule.<key>.<name>``.

    Returns:
        False if the timer has fired, was cancelled or was replaced meanwhile. Nothing is stored then.

    Raises:
        PublishError: The server refuses the firing. Nothing is stored.
        TimeoutError: The server does not answer. Nobody knows whether the firing is stored.
    """
    subject, headers = firing_message(stored)
    try:
        await jetstream.publish(subject, stored.payload, headers=headers)
    except WrongSequence:
        return False
    return True
