"""A till and a ledger that know nothing of each other, for tests of the router: rules connect them."""

from typing import Any

import msgspec

from runtime import Actor, Command, Event, Query, Rejected, command, query


class Sales(msgspec.Struct, frozen=True):
    count: int = 0


class Sell(Command[int], actor="till", key="till"):
    till: str
    total: int
    country: str = "DK"
    note: str | None = None


class Sold(Event, actor="till", key="till"):
    """Something was sold."""

    till: str
    number: int
    total: int
    country: str
    note: str | None = None


class Till(Actor[Sales]):
    """Sells."""

    name = "till"

    @command
    async def sell(self, message: Sell) -> int:
        number = (self.state or Sales()).count + 1
        self.state = Sales(number)
        self.emit(Sold(message.till, number, message.total, message.country, message.note))
        return number


class Booked(msgspec.Struct, frozen=True):
    entries: tuple[str, ...] = ()


class Book(Command[None], actor="ledger", key="account"):
    """Book an amount."""

    account: str
    amount: int
    text: str = ""


class GetEntries(Query[tuple[str, ...]], actor="ledger", key="account"):
    account: str


class AmountRefused(Rejected):
    pass


class Ledger(Actor[Booked]):
    """Books, and refuses negative amounts."""

    name = "ledger"

    @command
    async def book(self, message: Book) -> None:
        if message.amount < 0:
            raise AmountRefused(f"{message.amount} is negative")
        entries = (self.state or Booked()).entries
        self.state = Booked((*entries, f"{message.amount} {message.text}".strip()))

    @query
    async def get_entries(self, message: GetEntries) -> tuple[str, ...]:
        return (self.state or Booked()).entries


LEDGER: dict[str, Any] = {"kind": "command", "actor": "ledger", "command": "Book"}
"""The place of a target that books."""
