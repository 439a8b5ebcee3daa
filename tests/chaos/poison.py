"""Poison: an actor that cannot stomach some events, and the same one cured."""

import time
from typing import ClassVar

from msgspec import Struct

from runtime import Actor, Event, Options, Query, Rejected, RetryPolicy, query, react

ATTEMPTS = 4
RETRY = RetryPolicy(attempts=ATTEMPTS, first=0.2, longest=2.0)


class Served(Event, actor="kitchen", key="key"):
    """One dish; `poison` is "" or how it disagrees: ``fails`` each time, ``refused`` for good."""

    key: str
    number: int
    poison: str = ""


class Meals(Struct, frozen=True):
    """The numbers of the dishes that were eaten, in order."""

    eaten: tuple[int, ...] = ()


class GetMeals(Query[Meals], actor="picky", key="key"):
    key: str


class GetTries(Query[dict[str, list[float]]], actor="picky"):
    """When each dish was tried, by ``key/number``, in unix seconds."""


class Picky(Actor[Meals]):
    """Eats what it can."""

    name = "picky"
    options: ClassVar[Options] = Options(retry=RETRY)
    cured: ClassVar[bool] = False
    tries: dict[str, list[float]]

    async def on_start(self) -> None:
        self.tries = {}

    @react
    async def on_served(self, event: Served) -> None:
        self.tries.setdefault(f"{event.key}/{event.number}", []).append(time.time())
        if not self.cured and event.poison == "refused":
            raise Rejected(f"dish {event.number} is refused")
        if not self.cured and event.poison:
            raise ValueError(f"dish {event.number} disagrees")
        self.state = Meals((*(self.state or Meals()).eaten, event.number))

    @query
    async def get_meals(self, message: GetMeals) -> Meals:
        return self.state or Meals()

    @query
    async def get_tries(self, message: GetTries) -> dict[str, list[float]]:
        return self.tries


class Cured(Picky):
    """The same service, mended."""

    name = "picky"
    cured: ClassVar[bool] = True
