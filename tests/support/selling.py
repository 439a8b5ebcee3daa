"""Actors for faults: sellers of seats, a correct one and some that keep no promise."""

import asyncio
import os
from pathlib import Path

from msgspec import Struct

from runtime import Actor, Command, Event, Query, command, query, react

LEDGER = "SOLD_SEATS"
"""The variable with the path of a file to which a careless seller adds a line."""


class Sold(Struct, frozen=True):
    seats: int = 0


class SellSeats(Command[int], actor="seats", key="show"):
    show: str
    seats: int


class SeatsSold(Event, actor="seats", key="show"):
    show: str
    seats: int


class GetSold(Query[int], actor="seats", key="show"):
    show: str


class GetAudience(Query[int], actor="audience", key="show"):
    show: str


class Remind(Command[None], actor="audience", key="show"):
    show: str


class Seats(Actor[Sold]):
    name = "seats"

    @command
    async def sell_seats(self, message: SellSeats) -> int:
        self.state = Sold((self.state or Sold()).seats + message.seats)
        self.emit(SeatsSold(message.show, message.seats))
        return self.state.seats

    @query
    async def get_sold(self, message: GetSold) -> int:
        return (self.state or Sold()).seats


class CarelessSeats(Seats):
    """Has an effect outside of NATS, without an id."""

    @command
    async def sell_seats(self, message: SellSeats) -> int:
        ledger = Path(os.environ[LEDGER])
        ledger.write_text(f"{ledger.read_text()}{message.seats}\n")
        return await super().sell_seats(message)


class DoubleSeats(Seats):
    """Announces each sale twice."""

    @command
    async def sell_seats(self, message: SellSeats) -> int:
        self.emit(SeatsSold(message.show, message.seats))
        return await super().sell_seats(message)


class Audience(Actor[Sold]):
    name = "audience"

    @react
    async def on_seats_sold(self, event: SeatsSold) -> None:
        self.state = Sold((self.state or Sold()).seats + event.seats)

    @query
    async def get_audience(self, message: GetAudience) -> int:
        return (self.state or Sold()).seats


class SlowAudience(Audience):
    """Counts the first sale at once, and the next ones after a second."""

    @react
    async def on_seats_sold(self, event: SeatsSold) -> None:
        if self.state is not None:
            await asyncio.sleep(1)
        await super().on_seats_sold(event)


class Refusing(Actor[Sold]):
    """Does not start."""

    name = "refusing"

    async def on_start(self) -> None:
        raise RuntimeError("there is no stage")
