"""The flights, the hotels and the payments."""

from msgspec import Struct

from runtime import Actor, Rejected, command, query

from .messages import BookRoom, BookSeat, CancelRoom, CancelSeat, GetPayments, GetRooms, GetSeats, Pay, PayBack

SEATS = 2
ROOMS = 2
CREDIT = 1000


class Booked(Struct, frozen=True):
    trip_ids: tuple[str, ...] = ()

    def including(self, trip_id: str, most: int) -> "Booked":
        others = self.without(trip_id).trip_ids
        if len(others) == most:
            raise Rejected("everything is booked")
        return Booked((*others, trip_id))

    def without(self, trip_id: str) -> "Booked":
        return Booked(tuple(one for one in self.trip_ids if one != trip_id))


class Flights(Actor[Booked]):
    """The seats of each flight."""

    name = "flights"

    @command
    async def book_seat(self, message: BookSeat) -> None:
        self.state = (self.state or Booked()).including(message.trip_id, SEATS)

    @command
    async def cancel_seat(self, message: CancelSeat) -> None:
        self.state = (self.state or Booked()).without(message.trip_id)

    @query
    async def get_seats(self, message: GetSeats) -> tuple[str, ...]:
        return (self.state or Booked()).trip_ids


class Hotels(Actor[Booked]):
    """The rooms of each hotel."""

    name = "hotels"

    @command
    async def book_room(self, message: BookRoom) -> None:
        self.state = (self.state or Booked()).including(message.trip_id, ROOMS)

    @command
    async def cancel_room(self, message: CancelRoom) -> None:
        self.state = (self.state or Booked()).without(message.trip_id)

    @query
    async def get_rooms(self, message: GetRooms) -> tuple[str, ...]:
        return (self.state or Booked()).trip_ids


class Card(Struct, frozen=True):
    payments: dict[str, int] = {}
    """The amount of each trip."""

    def without(self, trip_id: str) -> "Card":
        return Card({trip: amount for trip, amount in self.payments.items() if trip != trip_id})


class Payments(Actor[Card]):
    """The payments of each card."""

    name = "payments"

    @command
    async def pay(self, message: Pay) -> None:
        card = (self.state or Card()).without(message.trip_id)
        if sum(card.payments.values()) + message.amount > CREDIT:
            raise Rejected(f"the card {message.card} is refused")
        self.state = Card({**card.payments, message.trip_id: message.amount})

    @command
    async def pay_back(self, message: PayBack) -> None:
        self.state = (self.state or Card()).without(message.trip_id)

    @query
    async def get_payments(self, message: GetPayments) -> dict[str, int]:
        return (self.state or Card()).payments
