"""The points of each user. This actor does not know where its commands come from."""

from typing import Annotated

from msgspec import Meta, Struct

from runtime import Actor, Command, Event, Query, command, query

CENTS = 100
"""Cents for which a user gets one point."""


class Account(Struct, frozen=True, rename="camel"):
    user_id: str
    points: int = 0
    orders: int = 0


class AddPoints(Command[Account], actor="loyalty", key="user_id", rename="camel"):
    """Book the points of one order."""

    user_id: str
    order_id: str
    spent: Annotated[int, Meta(ge=0, description="cents")]


class GetPoints(Query[Account], actor="loyalty", key="user_id", rename="camel"):
    """Return the points of a user: none, if the user has no orders."""

    user_id: str


class PointsAdded(Event, actor="loyalty", key="user_id", rename="camel"):  # actorloom: ignore[unread-event] - for rules
    """The points of an order were booked."""

    user_id: str
    order_id: str
    points: int


class Loyalty(Actor[Account]):
    """Counts points."""

    name = "loyalty"

    # A rule sends each order under an id that is the same at each attempt, so the runtime runs this once for each order.
    @command
    async def add_points(self, message: AddPoints) -> Account:
        account = self.state or Account(message.user_id)
        points = message.spent // CENTS
        self.state = Account(message.user_id, account.points + points, account.orders + 1)
        self.emit(PointsAdded(message.user_id, message.order_id, points))
        return self.state

    @query
    async def get_points(self, message: GetPoints) -> Account:
        return self.state or Account(message.user_id)
