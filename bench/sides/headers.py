"""Load with the headers of our own callers, and with one header more, which the fast reader of requests does not know."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.sides.neutral import Sender
from bench.work import BODY
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.wire.envelope import write


class HeaderSender(Sender):
    """Sends requests with a deadline, after the header lines `extra`."""

    def __init__(self, connection: Connection, subject: str, extra: bytes) -> None:
        super().__init__(connection, subject, None)
        self._extra = extra
        self._time = asyncio.get_running_loop().time

    def _send(self, _: int) -> Any:
        block = write(self._extra, time.time_ns() // 1_000_000 + 5000)
        return self.connection.request_nowait(self.subject, BODY, block, self._time() + 5)


@asynccontextmanager
async def sender(url: str, subject: str, extra: str) -> AsyncIterator[HeaderSender]:
    """Connect a sender; `extra` has whole header lines, or is empty."""
    async with await Connection.connect(ConnectionOptions(url=url), name="load") as connection:
        yield HeaderSender(connection, subject, extra.encode())
