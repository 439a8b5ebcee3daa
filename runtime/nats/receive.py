"""What a receiver of messages is, and the guard around it: its exception is logged and never ends the reading."""

import logging
from collections.abc import Callable

logger = logging.getLogger("actorloom.nats")

Receiver = Callable[[bytes, bytes, bytes | None, bytes], None]
"""`(subject, reply, header_block, payload)`: synchronous, called from the read loop, in the order of arrival.

`reply` is empty and `header_block` is None where the message has none.
"""


def deliver(receiver: Receiver, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
    """Call `receiver`; log what it raises."""
    try:
        receiver(subject, reply, headers, payload)
    except Exception as error:  # noqa: BLE001 - a receiver is a handler
        report(subject, error)


def report(subject: bytes, error: Exception) -> None:
    """Log what a receiver raised: it is a handler, and whatever it raises must not deafen the connection."""
    logger.error("a receiver of %s raised", subject.decode("utf-8", "backslashreplace"), exc_info=error)
