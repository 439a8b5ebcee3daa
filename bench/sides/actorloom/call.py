"""The calling side: queries and commands over a bus."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench import load
from bench.sides.actorloom.actors import GetAccount, GetQuote, MakeDeposit
from bench.sides.actorloom.spans import SpanExport
from bench.work import ORDER
from runtime.client.bus import Bus
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.telemetry import Tracing


class Caller(SpanExport):
    """A program without actors that calls them over a bus."""

    def __init__(self, bus: Bus, tracing: Tracing) -> None:
        super().__init__(tracing)
        self.bus = bus

    async def quotes(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Query quotes in a closed loop."""
        query, message = self.bus.query, GetQuote(**ORDER)
        return await load.closed_loop(lambda _: query(message), in_flight, seconds)

    async def deposits(self, in_flight: int, seconds: float, keys: int) -> dict[str, Any]:
        """Make deposits in a closed loop. Worker n uses the account n modulo `keys`."""
        command = self.bus.command
        return await load.closed_loop(lambda n: command(MakeDeposit(f"account-{n % keys}", 5)), in_flight, seconds)

    async def fill(self, first: int, count: int) -> dict[str, float]:
        """Make one deposit in each of `count` new accounts, numbered from `first`; return the seconds that it took."""
        numbers = iter(range(first, first + count))
        begun = time.perf_counter()

        async def worker() -> None:
            for number in numbers:
                await self.bus.command(MakeDeposit(f"account-{number}", 5))

        await asyncio.gather(*(worker() for _ in range(min(128, count))))
        return {"seconds": time.perf_counter() - begun}

    async def reads(self, in_flight: int, seconds: float, keys: int) -> dict[str, Any]:
        """Read accounts in a closed loop, spread over `keys` accounts."""
        query, counter = self.bus.query, 0

        def request(_: int) -> Any:
            nonlocal counter
            counter += 7919
            return query(GetAccount(f"account-{counter % keys}"))

        return await load.closed_loop(request, in_flight, seconds)


@asynccontextmanager
async def caller(url: str, namespace: str) -> AsyncIterator[Caller]:
    """Provide the caller. The environment configures tracing."""
    tracing = Tracing.from_env()
    async with await Connection.connect(ConnectionOptions(url=url), name="bench") as connection:
        yield Caller(Bus(connection, tracing.service("bench"), namespace=namespace), tracing)
        await asyncio.to_thread(tracing.shutdown)
