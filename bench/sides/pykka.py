"""pykka: an actor in a thread, told and asked as its documentation shows it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pykka

from bench import load
from bench.work import ORDER, Quote, QuoteRequest, quote


class Pricing(pykka.ThreadingActor):
    """Answers quotes."""

    def on_receive(self, message: Any) -> Quote | None:
        """Price an order; a tell is only counted by being handled."""
        return quote(message) if message is not None else None


class Near:
    """Both sides in one process."""

    def __init__(self) -> None:
        self.actor = Pricing.start()

    async def asks(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Ask, so many at a time."""
        actor, message = self.actor, QuoteRequest(**ORDER)

        def burst() -> int:
            pykka.get_all([actor.ask(message, block=False) for _ in range(in_flight)], timeout=10)
            return in_flight

        return load.bursts(burst, seconds)

    async def tells(self, seconds: float) -> dict[str, Any]:
        """Tell in bursts of 64, and ask once to know that all were handled."""
        actor = self.actor

        def burst() -> int:
            for _ in range(64):
                actor.tell(None)
            actor.ask(None, timeout=10)
            return 64

        return load.bursts(burst, seconds)


@asynccontextmanager
async def near() -> AsyncIterator[Near]:
    """Run the actor."""
    made = Near()
    yield made
    made.actor.stop()
