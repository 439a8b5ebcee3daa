"""Saga: a trip is booked at three services. If one of them refuses, the bookings before it are undone, in reverse.

    python examples/saga.py
    actorloom run examples.saga    # or serve it, and in another terminal:
    actorloom command trips.book_trip trip_id=oslo price=400
    actorloom query trips.list_trips status=undoing

It prints::

    rome is booked
    tokyo is undone: the card pays 1000 at most, and not 3000
    rome is booked, then undone: cancelled
    flights held: none of rome, none of tokyo
"""

import asyncio
from collections.abc import Callable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from runtime import (
    Accepted,
    Actor,
    Command,
    Event,
    Index,
    Query,
    Rejected,
    RequestError,
    command,
    local,
    not_found,
    query,
)


# The three services. The key of each booking is the trip. A booking that was cancelled is never made again, and nothing has to
# be booked before it is cancelled: so a `BookFlight` that arrives after its `CancelFlight` is refused. To book again what is
# booked changes nothing and is not refused: so a refusal means that the trip has no booking.
class Booking(Struct, frozen=True):
    held: bool


class BookFlight(Command[None], actor="flights", key="trip_id"):
    trip_id: str


class CancelFlight(Command[None], actor="flights", key="trip_id"):
    trip_id: str


class IsFlightHeld(Query[bool], actor="flights", key="trip_id"):
    trip_id: str


class Flights(Actor[Booking]):
    """Books a seat for each trip."""

    name = "flights"

    @command
    async def book_flight(self, message: BookFlight) -> None:
        if self.state is not None and not self.state.held:
            raise Rejected("the flight was cancelled before")
        self.state = Booking(held=True)

    @command
    async def cancel_flight(self, message: CancelFlight) -> None:
        self.state = Booking(held=False)

    @query
    async def is_flight_held(self, message: IsFlightHeld) -> bool:
        return self.state is not None and self.state.held


class BookRoom(Command[None], actor="hotels", key="trip_id"):
    trip_id: str


class CancelRoom(Command[None], actor="hotels", key="trip_id"):
    trip_id: str


class Hotels(Actor[Booking]):
    """Books a room for each trip."""

    name = "hotels"

    @command
    async def book_room(self, message: BookRoom) -> None:
        if self.state is not None and not self.state.held:
            raise Rejected("the room was cancelled before")
        self.state = Booking(held=True)

    @command
    async def cancel_room(self, message: CancelRoom) -> None:
        self.state = Booking(held=False)


class ChargeCard(Command[None], actor="cards", key="trip_id"):
    trip_id: str
    price: int


class RefundCard(Command[None], actor="cards", key="trip_id"):
    trip_id: str


class Cards(Actor[Booking]):
    """Takes the money for each trip."""

    name = "cards"

    @command
    async def charge_card(self, message: ChargeCard) -> None:
        if self.state is not None and not self.state.held:
            raise Rejected("the card was refunded before")
        if message.price > 1000:
            raise Rejected(f"the card pays 1000 at most, and not {message.price}")
        self.state = Booking(held=True)

    @command
    async def refund_card(self, message: RefundCard) -> None:
        self.state = Booking(held=False)


# The saga. All that it knows is in its state: how many steps are done, and in which direction it goes.
class Trip(Struct, frozen=True):
    trip_id: str
    price: int
    status: Literal["booking", "booked", "undoing", "undone"] = "booking"
    done: int = 0
    """The steps that have an effect, or may have one: the first ones of `STEPS`."""
    reason: str = ""


class Step(Struct, frozen=True):
    do: Callable[[Trip], Command[None]]
    undo: Callable[[Trip], Command[None]]


STEPS = (
    Step(lambda trip: BookFlight(trip.trip_id), lambda trip: CancelFlight(trip.trip_id)),
    Step(lambda trip: BookRoom(trip.trip_id), lambda trip: CancelRoom(trip.trip_id)),
    Step(lambda trip: ChargeCard(trip.trip_id, trip.price), lambda trip: RefundCard(trip.trip_id)),
)


class BookTrip(Command[Accepted], actor="trips", key="trip_id"):
    trip_id: str
    price: int


class CancelTrip(Command[Accepted], actor="trips", key="trip_id"):
    trip_id: str


class TripBooked(Event, actor="trips", key="trip_id"):
    trip_id: str


class TripCancelled(Event, actor="trips", key="trip_id"):
    trip_id: str
    reason: str


class GetTrip(Query[Trip], actor="trips", key="trip_id"):
    trip_id: str


class ListTrips(Query[list[Trip]], actor="trips"):
    status: str


class Trips(Actor[Trip], indexes=[Index("status")]):
    """Books trips, or undoes them."""

    name = "trips"

    # A long job, which begins again at its top after a failure or a kill: with the state of its last checkpoint.
    @command(accept=True)
    async def book_trip(self, message: BookTrip) -> None:
        if self.state is None:
            self.state = Trip(message.trip_id, message.price)
            await self.checkpoint()
        await self._go_on(self.state)

    # Undoes a trip that is booked, and one whose job has ended before its time, by a cancellation or as a dead letter.
    @command(accept=True)
    async def cancel_trip(self, message: CancelTrip) -> None:
        if (trip := self.state) is None:
            return
        if trip.status in ("booking", "booked"):
            trip = self.state = self._undoing(trip, trip.done + 1, "cancelled")
            await self.checkpoint()
        await self._go_on(trip)

    async def _go_on(self, trip: Trip) -> None:
        while trip.status in ("booking", "undoing"):
            trip = self.state = await (self._do(trip) if trip.status == "booking" else self._undo(trip))
            await self.checkpoint()

    async def _do(self, trip: Trip) -> Trip:
        """Do the next step. If it fails for good, decide to undo: the checkpoint stores that before anything is undone."""
        try:
            await self.command(STEPS[trip.done].do(trip))
        except RequestError as error:
            # Only a refusal is certain. Any other failure is tried again under the same id, as long as there are attempts. After
            # the last one the step counts as done: `executed` of its error does not cover the attempts before.
            if not isinstance(error, Rejected) and self.attempt < self.attempts:
                raise
            certain = isinstance(error, Rejected) and error.executed is False
            return self._undoing(trip, trip.done if certain else trip.done + 1, str(error))
        if trip.done + 1 < len(STEPS):
            return replace(trip, done=trip.done + 1)
        self.emit(TripBooked(trip.trip_id))
        return replace(trip, done=len(STEPS), status="booked")

    async def _undo(self, trip: Trip) -> Trip:
        """Undo the last step. If that fails, the job fails and is tried again: an undo has to succeed."""
        await self.command(STEPS[trip.done - 1].undo(trip))
        return self._undoing(trip, trip.done - 1, trip.reason)

    def _undoing(self, trip: Trip, done: int, reason: str) -> Trip:
        if done == 0:
            self.emit(TripCancelled(trip.trip_id, reason))
        return replace(trip, status="undoing" if done else "undone", done=min(done, len(STEPS)), reason=reason)

    @query
    async def get_trip(self, message: GetTrip) -> Trip:
        return self.state or not_found(f"there is no trip {message.trip_id}")

    @query
    async def list_trips(self, message: ListTrips) -> list[Trip]:
        return (await self.list(status=message.status)).items


async def main() -> None:
    async with local(Trips, Flights, Hotels, Cards) as bus:
        async with bus.events(TripBooked) as booked, bus.events(TripCancelled) as undone, asyncio.timeout(30):
            await bus.command(BookTrip("rome", price=300), id="rome-1")
            print(f"{(await anext(booked)).trip_id} is booked")

            await bus.command(BookTrip("tokyo", price=3000), id="tokyo-1")
            trip = await anext(undone)
            print(f"{trip.trip_id} is undone: {trip.reason}")

            await bus.command(CancelTrip("rome"), id="rome-2")
            trip = await anext(undone)
            print(f"{trip.trip_id} is booked, then undone: {trip.reason}")

        held = [f"{'one' if await bus.query(IsFlightHeld(each)) else 'none'} of {each}" for each in ("rome", "tokyo")]
        print(f"flights held: {', '.join(held)}")


if __name__ == "__main__":
    asyncio.run(main())
