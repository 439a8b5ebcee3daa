"""thespian: an actor told and asked from outside, on the one of its system bases that stays in the caller's process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from thespian.actors import Actor, ActorSystem

from bench import load
from bench.work import ORDER, QuoteRequest, quote


class Pricing(Actor):
    """Answers quotes."""

    def receiveMessage(self, message: Any, sender: Any) -> None:
        """Price an order; a tell is only counted by being handled."""
        if isinstance(message, QuoteRequest):
            self.send(sender, quote(message))


class Near:
    """Both sides in one process, and one thread."""

    def __init__(self) -> None:
        self.system = ActorSystem("simpleSystemBase")
        self.actor = self.system.createActor(Pricing)

    async def asks(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Ask one after another: thespian has one request of a caller under way, whatever `in_flight` says."""
        ask, actor, message = self.system.ask, self.actor, QuoteRequest(**ORDER)

        def burst() -> int:
            for _ in range(in_flight):
                ask(actor, message, 10)
            return in_flight

        return load.bursts(burst, seconds)

    async def tells(self, seconds: float) -> dict[str, Any]:
        """Tell in bursts of 64; a tell returns when it has been handled."""
        tell, actor = self.system.tell, self.actor

        def burst() -> int:
            for _ in range(64):
                tell(actor, None)
            return 64

        return load.bursts(burst, seconds)


@asynccontextmanager
async def near() -> AsyncIterator[Near]:
    """Run the actor."""
    made = Near()
    yield made
    made.system.shutdown()
