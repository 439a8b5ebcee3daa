"""The side of an actor library that blocks instead of using an event loop: bursts of requests and one-way messages, in one process."""

from collections.abc import Callable
from typing import Any

from bench import load

ONE_WAY = 64
"""One-way messages per burst."""


class BlockingSide:
    """Measures requests and one-way messages, in bursts of a given size.

    Args:
        ask: Sends a burst of requests, and returns once all replies are there.
        tell: Sends a burst of one-way messages, and returns once all are handled.
    """

    def __init__(self, ask: Callable[[int], None], tell: Callable[[int], None]) -> None:
        self._ask = ask
        self._tell = tell

    async def asks(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Send bursts of `in_flight` requests."""
        return load.bursts(self._ask, in_flight, seconds)

    async def tells(self, seconds: float) -> dict[str, Any]:
        """Send bursts of `ONE_WAY` one-way messages."""
        return load.bursts(self._tell, ONE_WAY, seconds)
