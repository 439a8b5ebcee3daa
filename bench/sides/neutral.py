"""Load without Go: requests with a fixed body over our own connection, the cheapest way to send them from Python."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import getrandbits
from typing import Any

from bench import load
from bench.work import BODY
from runtime.nats.connection import Connection, ConnectionOptions


class Sender:
    """Sends the same body to one subject. `share` of the requests carry a sampled trace context; None sends none."""

    def __init__(self, connection: Connection, subject: str, share: float | None) -> None:
        self.connection = connection
        self.subject = subject.encode()
        self.share = share
        self._loop = asyncio.get_running_loop()

    async def quotes(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Send in a closed loop."""
        return await load.closed_loop(self._send, in_flight, seconds)

    async def open(self, rate: float, seconds: float) -> dict[str, Any]:
        """Send at a fixed rate."""
        return await load.open_loop(self._send, rate, seconds)

    async def flush(self) -> dict[str, float]:
        """Return no counts: this side has no spans."""
        return {}

    def _send(self, _: int) -> Any:
        block = None
        if self.share is not None:
            flag = random.random() < self.share
            block = b"NATS/1.0\r\ntraceparent: 00-%032x-%016x-%02x\r\n\r\n" % (
                getrandbits(128),
                getrandbits(64) | 1,
                flag,
            )
        expires_at = self._loop.time() + 5
        return self.connection.request_nowait(self.subject, BODY, block, expires_at)


@asynccontextmanager
async def sender(url: str, subject: str, share: float | None) -> AsyncIterator[Sender]:
    """Provide the load generator; see `Sender`."""
    async with await Connection.connect(ConnectionOptions(url=url), name="load") as connection:
        yield Sender(connection, subject, share)
