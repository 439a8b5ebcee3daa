"""The saga of the examples with faults: its process is killed at a step, a reply is lost, a service fails."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from examples.saga import Cards, Flights, Hotels, Trips
from runtime import Actor, Command, DeadlineExceeded, Message, Options, Overloaded, Rejected, RetryPolicy

R = TypeVar("R")

DONE: list[str] = []
"""The commands that the services have stored, in order: ``BookFlight of rome``."""
LOST: dict[str, list[str]] = {}
"""By the text of a command, the faults of its attempts: ``request`` or ``reply`` gets lost, or the actor is ``full``."""
FAILING: set[str] = set()
"""The commands whose handler fails, by text."""
REFUSED_ONCE: set[str] = set()
"""The commands that are refused when they come for the first time, by text."""
SENT: Counter[str] = Counter()
"""How often the saga has sent each command."""
LAST: dict[str, str] = {}
"""By trip, the command that the saga has sent last in this process."""


def text_of(message: Any) -> str:
    return f"{type(message).__name__} of {message.trip_id}"


class KilledTrips(Trips):
    """Ends its process by SIGKILL at the step in the variable ``KILL``: ``BookFlight of rome sent``, ``… answered``, ``… stored``."""

    name = "trips"

    async def command(self, message: Command[R], *, timeout: float | None = None) -> R:
        step = text_of(message)
        if f"{step} sent" == os.environ["KILL"]:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, loop.call_soon, _kill)  # when the request is written, and not answered
        try:
            return await super().command(message, timeout=timeout)
        finally:
            if f"{step} answered" == os.environ["KILL"]:
                _kill()
            LAST[self.key] = step

    async def checkpoint(self) -> None:
        await super().checkpoint()
        if f"{LAST.get(self.key)} stored" == os.environ["KILL"]:
            _kill()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class LossyTrips(Trips):
    """Loses requests and replies, as `LOST` has it, and gives up after two attempts."""

    name = "trips"
    options = Options(retry=RetryPolicy(attempts=2, first=0.01))

    async def command(self, message: Command[R], *, timeout: float | None = None) -> R:
        step = text_of(message)
        SENT[step] += 1
        faults = LOST.get(step)
        fault = faults.pop(0) if faults else ""
        if fault == "full":
            raise Overloaded(f"{step}: the lane is full")
        if fault != "request":
            reply = await super().command(message, timeout=timeout)
            if not fault:
                return reply
        raise DeadlineExceeded(f"{step}: no reply in time")


class Noted(Actor[Any]):
    """Notes each command whose turn is stored. A command that comes again under its id has no turn."""

    async def on_message(self, message: Message, handle: Callable[[], Awaitable[Any]]) -> Any:
        step = text_of(message)
        if isinstance(message, Command):
            if step in FAILING:
                raise RuntimeError("fails on purpose")
            if step in REFUSED_ONCE:
                REFUSED_ONCE.discard(step)
                raise Rejected("not now")
            self.on_commit(lambda: DONE.append(step))
        return await super().on_message(message, handle)


class NotedFlights(Noted, Flights):
    name = "flights"


class NotedHotels(Noted, Hotels):
    name = "hotels"


class NotedCards(Noted, Cards):
    name = "cards"


SERVICES = (NotedFlights, NotedHotels, NotedCards)


def done_for(trip_id: str) -> list[str]:
    """Return the commands that the services have stored for a trip, in order."""
    return [step.removesuffix(f" of {trip_id}") for step in DONE if step.endswith(f" of {trip_id}")]
