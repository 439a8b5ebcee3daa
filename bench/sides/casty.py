"""casty: an actor that is a function over its inbox, called through a reference, in a system of one process."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from casty import ActorSystem, Askable, Context, actor

from bench import load
from bench.work import ORDER


@dataclass(frozen=True)
class Line:
    """`work.Line` as a dataclass, which casty serializes."""

    product: str
    quantity: int
    price: int


@dataclass(frozen=True)
class Priced:
    """`work.Quote` as a dataclass."""

    order_id: str
    total: int


@dataclass(frozen=True)
class GetQuote(Askable[Priced]):
    """`work.QuoteRequest` as a dataclass."""

    order_id: str
    customer: str
    street: str
    city: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Tell:
    """A message without a reply and without work."""


@actor(initial=0)
async def pricing(ctx: Context[int, GetQuote | Tell]) -> None:
    """Answer quotes."""
    async for message in ctx.inbox:
        match message:
            case GetQuote():
                total = sum([line.quantity * line.price for line in message.lines])
                message.reply_to.tell(Priced(message.order_id, total))
            case Tell():
                pass


class Local:
    """Calls the actor from its own process."""

    def __init__(self, system: ActorSystem) -> None:
        self.actor = system.ref(pricing, "one")
        lines = tuple(Line(line.product, line.quantity, line.price) for line in ORDER["lines"])
        self.message = GetQuote(**{**ORDER, "lines": lines})

    async def asks(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Ask in a closed loop."""
        ask, message = self.actor.ask, self.message
        return await load.closed_loop(lambda _: ask(message), in_flight, seconds)

    async def tells(self, seconds: float) -> dict[str, Any]:
        """Send bursts of 64 one-way messages and a request, whose reply shows that all of them were handled."""
        tell, ask, message, count = self.actor.tell, self.actor.ask, Tell(), 0
        begun, cpu = time.perf_counter(), time.process_time_ns()
        while time.perf_counter() - begun < seconds:
            for _ in range(64):
                tell(message)
            await ask(self.message)
            count += 64
        return {"count": count, "seconds": time.perf_counter() - begun, "cpu_us": (time.process_time_ns() - cpu) / 1e3}


@asynccontextmanager
async def local() -> AsyncIterator[Local]:
    """Run the actor and its caller in this process."""
    async with ActorSystem() as system:
        yield Local(system)
