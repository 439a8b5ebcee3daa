"""Waits for a condition that has no event to await."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], timeout: float = 15.0) -> None:
    """Return as soon as `condition` returns a true value.

    Raises:
        TimeoutError: It does not within `timeout` seconds.
    """
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.002)
