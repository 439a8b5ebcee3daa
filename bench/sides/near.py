"""Both sides in one process: our actors with the loopback and through NATS, our mailbox, and an `asyncio.Queue` actor."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bench import load
from bench.sides.own import GetQuote, Pricing
from bench.work import ORDER, Quote, QuoteRequest, quote
from runtime.client.bus import Bus
from runtime.telemetry import Tracing
from runtime.testing import running
from runtime.turns.workers import Workers

BURST = 64


class Asker:
    """Asks an actor of its own process."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def asks(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Ask in a closed loop."""
        ask, message = self.bus.query, GetQuote(**ORDER)
        return await load.closed(lambda _: ask(message), in_flight, seconds)


@asynccontextmanager
async def own(url: str, namespace: str, loopback: bool) -> AsyncIterator[Asker]:
    """Our actor, asked over the bus of its process."""
    async with running(Pricing, url=url, namespace=namespace, tracing=Tracing.from_env(), loopback=loopback) as system:
        yield Asker(system.bus)


class Told:
    """A message that is told: counted by being handled."""

    __slots__ = ("count",)

    def __init__(self, count: list[int]) -> None:
        self.count = count

    async def run(self) -> None:
        """Handle it."""
        self.count[0] += 1

    def abandon(self) -> None:
        """Nobody waits for it."""


class Asked:
    """A message that is asked."""

    __slots__ = ("message", "reply")

    def __init__(self, message: QuoteRequest, reply: asyncio.Future[Quote]) -> None:
        self.message = message
        self.reply = reply

    async def run(self) -> None:
        """Price an order."""
        self.reply.set_result(quote(self.message))


class Floor:
    """Our mailbox alone, and an actor that is a task and an `asyncio.Queue`: the same messages, handled the same way."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Told | Asked] = asyncio.Queue()
        self.count = [0]
        self.workers = Workers(256, _fail)
        self.actor = asyncio.create_task(self._serve())

    async def asks(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Ask the queue actor in a closed loop."""
        future, put, message = asyncio.get_running_loop().create_future, self.queue.put, QuoteRequest(**ORDER)

        async def one(_: int) -> Quote:
            asked = Asked(message, future())
            await put(asked)
            return await asked.reply

        return await load.closed(one, in_flight, seconds)

    async def tells_to_queue(self, seconds: float) -> dict[str, Any]:
        """Tell the queue actor, in bursts."""
        return await self._tells(self.queue.put_nowait, seconds)

    async def tells_to_mailbox(self, seconds: float) -> dict[str, Any]:
        """Put messages into our mailbox, in bursts."""
        return await self._tells(self.workers.put, seconds)

    async def _tells(self, tell: Callable[[Told], None], seconds: float) -> dict[str, Any]:
        count, told = self.count, 0
        count[0] = 0
        begun, cpu = time.perf_counter(), time.process_time_ns()
        while time.perf_counter() - begun < seconds:
            for _ in range(BURST):
                tell(Told(count))
            told += BURST
            while count[0] < told:
                await asyncio.sleep(0)
        return {
            "count": told,
            "seconds": time.perf_counter() - begun,
            "cpu_us": (time.process_time_ns() - cpu) / 1e3,
        }

    async def _serve(self) -> None:
        get = self.queue.get
        while True:
            await (await get()).run()


def _fail(error: BaseException) -> None:
    raise error


@asynccontextmanager
async def floor() -> AsyncIterator[Floor]:
    """Neither NATS nor an actor."""
    made = Floor()
    yield made
    made.actor.cancel()
    await asyncio.gather(made.actor, return_exceptions=True)
    await made.workers.close()
