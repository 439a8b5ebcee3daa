"""Hops: how many deliveries have led to a message, one after another. They end a circle of rules.

The count is in the baggage, which travels with a command to its events, and so comes back to the router.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from opentelemetry import baggage, context

MOST_HOPS: Final = 8
"""Deliveries that may lead to each other. The next one becomes a dead letter."""

_ENTRY = "actorloom.hops"


def hops() -> int:
    """Return the deliveries that have led to the message which is being handled; 0 for one that no rule has caused."""
    found = baggage.get_baggage(_ENTRY)
    return int(found) if isinstance(found, str) and found.isdecimal() and len(found) < 4 else 0


@contextmanager
def hop(number: int) -> Generator[None]:
    """Give the messages that are sent in this block the number of their hop."""
    token = context.attach(baggage.set_baggage(_ENTRY, str(number)))
    try:
        yield
    finally:
        context.detach(token)
