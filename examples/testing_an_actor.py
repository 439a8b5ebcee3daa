"""Testing an actor: its handlers called by themselves, then the actors on a real NATS server.

    pytest examples/testing_an_actor.py                  # with pytest-asyncio, and asyncio_mode = "auto"
    python examples/testing_an_actor.py                  # the same tests without pytest

Without pytest it prints::

    test_a_booking_is_priced_and_announced: passed
    test_a_full_house_is_refused: passed
    test_a_booking_fails_without_a_price: passed
    test_a_second_run_books_the_same: passed
    test_a_booking_counts_once_on_a_real_server: passed
    test_seats_that_are_held_are_free_again_after_ten_minutes: passed
    test_a_booking_survives_a_crash: passed
"""

import asyncio
from functools import partial

import pytest
from msgspec import Struct

from runtime import Actor, Command, Event, NotDelivered, Query, Rejected, command, query, react
from runtime.testing import Actors, EmbeddedServer, repeated, running, worker

SEATS = 100


class Price(Struct, frozen=True):
    price: int


class GetPrice(Query[Price], actor="prices"):
    show: str


class Prices(Actor):
    """Returns the price of a seat."""

    name = "prices"

    @query
    async def get_price(self, message: GetPrice) -> Price:
        return Price(12)


class Booking(Struct, frozen=True):
    show: str
    seats: int
    total: int


class BookSeats(Command[Booking], actor="tickets", key="show"):
    show: str
    seats: int


class HoldSeats(Command[None], actor="tickets", key="show"):
    """Keeps seats for ten minutes."""

    show: str
    seats: int


class FreeSeats(Command[None], actor="tickets", key="show"):
    show: str
    seats: int


class GetFree(Query[int], actor="tickets", key="show"):
    show: str


class SeatsBooked(Event, actor="tickets", key="show"):
    show: str
    seats: int


class Sold(Struct, frozen=True):
    seats: int = 0


class Tickets(Actor[Sold]):
    """Sells the seats of each show."""

    name = "tickets"

    @command
    async def book_seats(self, message: BookSeats) -> Booking:
        sold = (self.state or Sold()).seats + message.seats
        if sold > SEATS:
            raise Rejected(f"{message.show} is sold out")
        price = (await self.query(GetPrice(message.show))).price
        self.state = Sold(sold)
        self.emit(SeatsBooked(message.show, message.seats))
        return Booking(message.show, message.seats, price * message.seats)

    @command
    async def hold_seats(self, message: HoldSeats) -> None:
        self.state = Sold((self.state or Sold()).seats + message.seats)
        self.remind(600, FreeSeats(message.show, message.seats))

    @command
    async def free_seats(self, message: FreeSeats) -> None:
        self.state = Sold((self.state or Sold()).seats - message.seats)

    @query
    async def get_free(self, message: GetFree) -> int:
        return SEATS - (self.state or Sold()).seats


class GetAudience(Query[Sold], actor="ushers", key="show"):
    show: str


class Ushers(Actor[Sold]):
    """Count the audience of each show."""

    name = "ushers"

    @react
    async def on_seats_booked(self, event: SeatsBooked) -> None:
        self.state = Sold((self.state or Sold()).seats + event.seats)

    @query
    async def get_audience(self, message: GetAudience) -> Sold:
        return self.state or Sold()


# A handler by itself: `worker` returns an actor as one message of one key sees it. Nothing is sent. `replies` has the
# reply to each query or command that the handler sends: a value, an error to raise, or a function of the message.
async def test_a_booking_is_priced_and_announced() -> None:
    tickets = worker(Tickets, key="hamlet", state=Sold(3), replies={GetPrice: Price(12)})
    assert await tickets.book_seats(BookSeats("hamlet", 2)) == Booking("hamlet", 2, total=24)
    assert tickets.state == Sold(5)
    assert tickets.sent == [GetPrice("hamlet")]
    assert tickets.emitted == [SeatsBooked("hamlet", 2)]


async def test_a_full_house_is_refused() -> None:
    tickets = worker(Tickets, key="hamlet", state=Sold(99))
    with pytest.raises(Rejected, match="hamlet is sold out"):
        await tickets.book_seats(BookSeats("hamlet", 2))
    assert tickets.state == Sold(99)
    assert tickets.sent == tickets.emitted == []


# A message without a reply raises `NotDelivered`, as it does when no process serves it.
async def test_a_booking_fails_without_a_price() -> None:
    tickets = worker(Tickets, key="hamlet")
    with pytest.raises(NotDelivered):
        await tickets.book_seats(BookSeats("hamlet", 2))
    assert tickets.emitted == []


# A handler runs again if its process ends before the commit. `repeated` runs it twice, and fails if the second run sends others
# messages than the first: those of a handler that goes by a clock or by random numbers.
async def test_a_second_run_books_the_same() -> None:
    booking = await repeated(Tickets, BookSeats("hamlet", 2), replies={GetPrice: Price(12)})
    assert booking.total == 24


# The actors on a real server. `actors` is a fixture: it is `running` with the server of the session, and a namespace per test.
async def test_a_booking_counts_once_on_a_real_server(actors: Actors) -> None:
    async with actors(Prices, Tickets, Ushers) as system:
        for _ in range(2):  # the second one gets the stored reply
            booking = await system.bus.command(BookSeats("hamlet", 2), id="booking-1")
            assert booking.total == 24

        # Reactions run in the background, so wait for the effect and do not sleep.
        async def counted() -> bool:
            return await system.bus.query(GetAudience("hamlet")) == Sold(2)

        await system.until(counted)


# `skip` moves the time on, and fires the timers that are due by then.
async def test_seats_that_are_held_are_free_again_after_ten_minutes(actors: Actors) -> None:
    async with actors(Tickets) as system:
        await system.bus.command(HoldSeats("hamlet", 3))
        await system.skip(599)
        assert await system.bus.query(GetFree("hamlet")) == SEATS - 3
        assert await system.skip(1) == 1
        assert await system.bus.query(GetFree("hamlet")) == SEATS


# `crash` ends the actors as SIGKILL ends a process: nothing is drained, and no lease is given back.
async def test_a_booking_survives_a_crash(actors: Actors) -> None:
    async with actors(Prices, Tickets) as system:
        await system.bus.command(BookSeats("hamlet", 2), id="booking-1")
        await system.crash()
        await system.restart()
        await system.bus.retry(BookSeats("hamlet", 2), id="booking-1")
        assert await system.bus.query(GetFree("hamlet")) == SEATS - 2


async def main() -> None:
    for alone in (
        test_a_booking_is_priced_and_announced,
        test_a_full_house_is_refused,
        test_a_booking_fails_without_a_price,
        test_a_second_run_books_the_same,
    ):
        await alone()
        print(f"{alone.__name__}: passed")
    async with EmbeddedServer(port=0) as server:
        for number, on_server in enumerate(
            (
                test_a_booking_counts_once_on_a_real_server,
                test_seats_that_are_held_are_free_again_after_ten_minutes,
                test_a_booking_survives_a_crash,
            )
        ):
            await on_server(partial(running, url=server.url, namespace=f"test-{number}"))
            print(f"{on_server.__name__}: passed")


if __name__ == "__main__":
    asyncio.run(main())
