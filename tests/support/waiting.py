"""Waits for conditions that have no event to await."""

import asyncio
from collections.abc import Callable

from runtime.nats.connection import Connection, NoResponders


async def until(condition: Callable[[], object], timeout: float = 30.0) -> None:
    """Return as soon as `condition` returns a true value.

    Raises:
        TimeoutError: It does not within `timeout` seconds.
    """
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.002)


async def unheard(connection: Connection, subject: str) -> None:
    """Return when the server knows of no subscriber to `subject`.

    The server needs a moment to see that a connection has ended, and messages that it routes there meanwhile are lost.

    Raises:
        TimeoutError: The subject has a subscriber for longer than 30 seconds.
    """
    async with asyncio.timeout(30):
        while True:
            try:
                await connection.request(subject, b"", timeout=0.1)
            except NoResponders:
                return
            except TimeoutError:
                pass
            await asyncio.sleep(0.002)
