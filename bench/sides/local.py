"""Callers and actors in one process: our actors over the loopback and over NATS, and the primitives below an actor."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bench import load
from bench.sides.actorloom import GetQuote, Pricing
from bench.work import ORDER, Quote, QuoteRequest, quote
from runtime.client.bus import Bus
from runtime.telemetry import Tracing
from runtime.testing import running
from runtime.turns.workers import Workers

BURST = 64
"""One-way messages per burst."""


class Asker:
    """Queries an actor of its own process."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def asks(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Query in a closed loop."""
        query, message = self.bus.query, GetQuote(**ORDER)
        return await load.closed_loop(lambda _: query(message), in_flight, seconds)


@asynccontextmanager
async def actor(url: str, namespace: str, loopback: bool) -> AsyncIterator[Asker]:
    """Run an actor, called over the bus of its process: through NATS, or over the loopback."""
    async with running(Pricing, url=url, namespace=namespace, tracing=Tracing.from_env(), loopback=loopback) as system:
        yield Asker(system.bus)


class Tell:
    """A message without a reply. It adds one to the number of handled messages."""

    __slots__ = ("handled",)

    def __init__(self, handled: list[int]) -> None:
        self.handled = handled

    async def run(self) -> None:
        """Count this message."""
        self.handled[0] += 1

    def abandon(self) -> None:
        """Do nothing: no caller waits for a reply."""


class Ask:
    """A message with a reply."""

    __slots__ = ("message", "reply")

    def __init__(self, message: QuoteRequest, reply: asyncio.Future[Quote]) -> None:
        self.message = message
        self.reply = reply

    async def run(self) -> None:
        """Price the order."""
        self.reply.set_result(quote(self.message))


class Primitives:
    """Our mailbox alone, and an actor that is a task reading an `asyncio.Queue`. Both handle the same messages."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Tell | Ask] = asyncio.Queue()
        self.handled = [0]
        self.workers = Workers(256, _raise)
        self.queue_actor = asyncio.create_task(self._serve_queue())

    async def asks(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Ask the queue actor in a closed loop."""
        future, put, message = asyncio.get_running_loop().create_future, self.queue.put, QuoteRequest(**ORDER)

        async def request(_: int) -> Quote:
            ask = Ask(message, future())
            await put(ask)
            return await ask.reply

        return await load.closed_loop(request, in_flight, seconds)

    async def tells_to_queue(self, seconds: float) -> dict[str, Any]:
        """Send one-way messages to the queue actor, in bursts."""
        return await self._tells(self.queue.put_nowait, seconds)

    async def tells_to_mailbox(self, seconds: float) -> dict[str, Any]:
        """Put one-way messages into our mailbox, in bursts."""
        return await self._tells(self.workers.put, seconds)

    async def _tells(self, tell: Callable[[Tell], None], seconds: float) -> dict[str, Any]:
        handled, sent = self.handled, 0
        handled[0] = 0
        begun, cpu = time.perf_counter(), time.process_time_ns()
        while time.perf_counter() - begun < seconds:
            for _ in range(BURST):
                tell(Tell(handled))
            sent += BURST
            while handled[0] < sent:
                await asyncio.sleep(0)
        return {
            "count": sent,
            "seconds": time.perf_counter() - begun,
            "cpu_us": (time.process_time_ns() - cpu) / 1e3,
        }

    async def _serve_queue(self) -> None:
        get = self.queue.get
        while True:
            await (await get()).run()


def _raise(error: BaseException) -> None:
    raise error


@asynccontextmanager
async def primitives() -> AsyncIterator[Primitives]:
    """Provide the mailbox and the queue actor, without NATS and without an actor of ours."""
    side = Primitives()
    yield side
    side.queue_actor.cancel()
    await asyncio.gather(side.queue_actor, return_exceptions=True)
    await side.workers.close()
