"""thespian: an actor called from outside, on the only one of its system bases that stays in the caller's process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from thespian.actors import Actor, ActorSystem

from bench.sides.blocking import BlockingSide
from bench.work import ORDER, QuoteRequest, quote


class Pricing(Actor):
    """Answers quotes."""

    def receiveMessage(self, message: Any, sender: Any) -> None:
        """Price an order. A one-way message is None, and needs no work."""
        if isinstance(message, QuoteRequest):
            self.send(sender, quote(message))


@asynccontextmanager
async def local() -> AsyncIterator[BlockingSide]:
    """Run the actor and its caller in this process, and in one thread."""
    system = ActorSystem("simpleSystemBase")
    actor, message = system.createActor(Pricing), QuoteRequest(**ORDER)

    def ask(count: int) -> None:
        for _ in range(count):  # one after another: thespian has one request of a caller in flight
            system.ask(actor, message, 10)

    def tell(count: int) -> None:
        for _ in range(count):  # a tell returns once it has been handled
            system.tell(actor, None)

    yield BlockingSide(ask, tell)
    system.shutdown()
