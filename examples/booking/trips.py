"""The saga: a trip is booked as a whole, or not at all."""

from msgspec.structs import replace

from runtime import Actor, Command, Index, Page, Rejected, command, not_found, query

from .messages import (
    BookRoom,
    BookSeat,
    BookTrip,
    CancelRoom,
    CancelSeat,
    GetTrip,
    ListTrips,
    Pay,
    PayBack,
    Status,
    Trip,
    TripEnded,
)


def steps(trip: Trip) -> list[tuple[Command[None], Command[None]]]:
    """Return the commands that book the parts of a trip, in their order, each with the command that undoes it."""
    return [
        (BookSeat(trip.flight, trip.trip_id), CancelSeat(trip.flight, trip.trip_id)),
        (BookRoom(trip.hotel, trip.trip_id), CancelRoom(trip.hotel, trip.trip_id)),
        (Pay(trip.card, trip.trip_id, trip.amount), PayBack(trip.card, trip.trip_id)),
    ]


class Trips(Actor[Trip], indexes=[Index("status")]):
    """Books trips."""

    name = "trips"

    # A long job is a loop over its state. Each checkpoint stores a step, and a new run goes on after the last one. After the last
    # attempt at a step the job is a dead letter; `actorloom dlq redrive` goes on with it.
    @command(accept=True)
    async def book_trip(self, message: BookTrip) -> None:
        trip = self.state
        if trip is None:
            trip = self.state = Trip(message.trip_id, message.flight, message.hotel, message.card, message.amount)
            await self.checkpoint()  # lists show the trip from here on, even if its first step fails for good
        if trip.status in (Status.BOOKED, Status.REFUSED):
            return  # another command for a trip that has ended
        parts = steps(trip)
        while trip.status == Status.BOOKING and trip.booked < len(parts):
            book, _ = parts[trip.booked]
            try:
                await self.command(book)
                trip = replace(trip, booked=trip.booked + 1)
            except Rejected as refusal:
                # All other errors pass. Their outcome may be unknown, and the next run sends the same command under the same id.
                trip = replace(trip, status=Status.UNDOING, reason=str(refusal))
            self.state = trip
            await self.checkpoint()
        while trip.status == Status.UNDOING and trip.booked:
            _, undo = parts[trip.booked - 1]
            await self.command(undo)
            self.state = trip = replace(trip, booked=trip.booked - 1)
            await self.checkpoint()
        self.state = replace(trip, status=Status.BOOKED if trip.booked else Status.REFUSED)
        self.emit(TripEnded(message.trip_id, self.state.status, self.state.reason))

    @query
    async def get_trip(self, message: GetTrip) -> Trip:
        return self.state or not_found(f"there is no trip {message.trip_id}")

    @query
    async def list_trips(self, message: ListTrips) -> Page[Trip]:
        return await self.list(status=message.status, after=message.after)
