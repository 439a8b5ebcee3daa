"""pykka: an actor in a thread, used as its documentation advises."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pykka

from bench.sides.blocking import BlockingSide
from bench.work import ORDER, Quote, QuoteRequest, quote


class Pricing(pykka.ThreadingActor):
    """Answers quotes."""

    def on_receive(self, message: Any) -> Quote | None:
        """Price an order. A one-way message is None, and needs no work."""
        return quote(message) if message is not None else None


@asynccontextmanager
async def local() -> AsyncIterator[BlockingSide]:
    """Run the actor and its caller in this process."""
    actor, message = Pricing.start(), QuoteRequest(**ORDER)

    def ask(count: int) -> None:
        pykka.get_all([actor.ask(message, block=False) for _ in range(count)], timeout=10)

    def tell(count: int) -> None:
        for _ in range(count):
            actor.tell(None)
        actor.ask(None, timeout=10)  # its reply shows that all tells before it were handled

    yield BlockingSide(ask, tell)
    actor.stop()
