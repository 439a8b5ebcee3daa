"""Poison messages: an actor that fails on certain events, and a version of it that is fixed."""

import asyncio
import os
import time
from typing import ClassVar

from msgspec import Struct

from runtime import Actor, Event, Options, Query, Rejected, RetryPolicy, query, react

ATTEMPTS = 4
"""Attempts of an event before it becomes a dead letter."""

RETRY = RetryPolicy(attempts=ATTEMPTS, first=0.2, longest=2.0)


class Served(Event, actor="kitchen", key="key"):
    """One event. `poison` is its effect: ``fails`` on every attempt, ``rejected`` at once, or none if empty."""

    key: str
    number: int
    poison: str = ""


class Meals(Struct, frozen=True):
    """The numbers of the handled events of a key, in order."""

    eaten: tuple[int, ...] = ()


class GetMeals(Query[Meals], actor="picky", key="key"):
    key: str


class GetTries(Query[dict[str, list[float]]], actor="picky"):
    """Returns the Unix times of all attempts, by ``key/number``."""


class Picky(Actor[Meals]):
    """Handles events that are not poisoned, and records all attempts."""

    name = "picky"
    options: ClassVar[Options] = Options(retry=RETRY)
    fixed: ClassVar[bool] = False
    tries: dict[str, list[float]]

    async def on_start(self) -> None:
        self.tries = {}

    @react
    async def on_served(self, event: Served) -> None:
        self.tries.setdefault(f"{event.key}/{event.number}", []).append(time.time())
        if not self.fixed and event.poison == "rejected":
            raise Rejected(f"dish {event.number} is rejected")
        if not self.fixed and event.poison:
            raise ValueError(f"dish {event.number} fails")
        self.state = Meals((*(self.state or Meals()).eaten, event.number))

    @query
    async def get_meals(self, message: GetMeals) -> Meals:
        return self.state or Meals()

    @query
    async def get_tries(self, message: GetTries) -> dict[str, list[float]]:
        return self.tries


class Ignited(Event, actor="kitchen", key="key"):
    """Another event. `kind` is its effect: ``exits`` ends the process, ``slow`` takes some time."""

    key: str
    number: int
    kind: str


BURNS = "the slow event burns"
"""The line that a process prints each time it begins to handle a slow event."""
SLOW = 4.0
"""Seconds that a slow event takes."""
EXIT = 7
"""The exit code of a process that an event has ended."""


class Patient(Picky):
    """The same service with more attempts, for the time of many changes of its owner."""

    name = "picky"
    options: ClassVar[Options] = Options(retry=RetryPolicy(attempts=30, first=0.2, longest=1.0))

    @react(attempts=ATTEMPTS)
    async def on_ignited(self, event: Ignited) -> None:
        if event.kind == "exits":
            os._exit(EXIT)
        print(BURNS, flush=True)
        await asyncio.sleep(SLOW)
        self.state = Meals((*(self.state or Meals()).eaten, event.number))


class PatientFixed(Patient):
    """The same service, which handles every event of the first kind."""

    name = "picky"
    fixed: ClassVar[bool] = True


class Fixed(Picky):
    """The same service, which handles every event."""

    name = "picky"
    fixed: ClassVar[bool] = True
