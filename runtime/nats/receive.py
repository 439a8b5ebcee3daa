"""Receivers of messages, and the guard that keeps their exceptions from ending the read loop."""

import logging
from collections.abc import Callable

from runtime.faults import log_fault

logger = logging.getLogger("actorloom.nats")

Receiver = Callable[[bytes, bytes, bytes | None, bytes], None]
"""A function of ``(subject, reply, header_block, payload)``.

The read loop calls it synchronously, in the order of arrival. `reply` is empty if the message has no reply subject, and
`header_block` is None if it has no headers.
"""


def deliver(receiver: Receiver, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
    """Call `receiver` with a message; log an exception that it raises."""
    try:
        receiver(subject, reply, headers, payload)
    except BaseException as error:  # noqa: BLE001 - a receiver runs application code
        log_exception(subject, error)


def log_exception(subject: bytes, error: BaseException) -> None:
    """Log the exception of a receiver. If it were raised, the read loop would end and the connection be deaf."""
    log_fault(logger, "a receiver of %s raised", subject.decode("utf-8", "backslashreplace"), error=error)
