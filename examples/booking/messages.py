"""The messages of the four services."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from runtime import Accepted, Command, Event, Page, Query

Amount = Annotated[int, Meta(gt=0)]

# Each service knows a reservation by its trip. To book it again changes nothing and is never refused, so a refusal means that there is
# no reservation. An undo has no effect if there is none.


class BookSeat(Command[None], actor="flights", key="flight"):
    flight: str
    trip_id: str


class CancelSeat(Command[None], actor="flights", key="flight"):
    flight: str
    trip_id: str


class BookRoom(Command[None], actor="hotels", key="hotel"):
    hotel: str
    trip_id: str


class CancelRoom(Command[None], actor="hotels", key="hotel"):
    hotel: str
    trip_id: str


class Pay(Command[None], actor="payments", key="card"):
    card: str
    trip_id: str
    amount: Amount


class PayBack(Command[None], actor="payments", key="card"):
    card: str
    trip_id: str


class GetSeats(Query[tuple[str, ...]], actor="flights", key="flight"):
    """The trips that have a seat."""

    flight: str


class GetRooms(Query[tuple[str, ...]], actor="hotels", key="hotel"):
    """The trips that have a room."""

    hotel: str


class GetPayments(Query[dict[str, int]], actor="payments", key="card"):
    """The amount of each trip that the card has paid."""

    card: str


class Status(StrEnum):
    BOOKING = "booking"
    BOOKED = "booked"
    UNDOING = "undoing"
    REFUSED = "refused"


class Trip(Struct, frozen=True):
    """A trip has what its first `BookTrip` asks for. Another one for the same trip changes nothing."""

    trip_id: str
    flight: str
    hotel: str
    card: str
    amount: int
    status: Status = Status.BOOKING
    booked: int = 0
    """The number of parts that are booked."""
    reason: str = ""


class BookTrip(Command[Accepted], actor="trips", key="trip_id"):
    """Book a flight and a hotel, and pay them. `TripEnded` reports the outcome."""

    trip_id: str
    flight: str
    hotel: str
    card: str
    amount: Amount


class GetTrip(Query[Trip], actor="trips", key="trip_id"):
    trip_id: str


class ListTrips(Query[Page[Trip]], actor="trips"):
    status: Status
    after: str | None = None


class TripEnded(Event, actor="trips", key="trip_id"):  # actorloom: ignore[unread-event] - for the caller
    trip_id: str
    status: Status
    reason: str
