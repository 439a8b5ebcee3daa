"""Hybrid: one actor with all four verbs. It handles queries and commands, emits events, and reacts to those of another.

A guest orders a dish at a table. The actor `bills` queries the menu for the price, commands the kitchen to cook, and emits
an event. When the kitchen emits that the dish is cooked, `bills` reacts and marks it as served.

    python examples/hybrid.py
    actorloom run examples.hybrid    # or serve it, and in another terminal:
    actorloom command bills.order_dish table=4 dish=soup
    nats req bills.query.get_bill '{"table": "4"}'
    nats sub 'bills.event.>'

It prints::

    ordered: soup for 6
    ordered: bread for 2
    the menu has no unicorn
    table 4 pays 8 for soup (served), bread (served)
"""

import asyncio

from msgspec import Struct
from msgspec.structs import replace

from runtime import Actor, Command, Event, NotFound, Query, command, local, not_found, query, react

# The menu is an actor without state. Any number of processes may serve it; each query goes to one of them.

PRICES = {"soup": 6, "bread": 2}


class Price(Struct, frozen=True):
    dish: str
    price: int


class GetPrice(Query[Price], actor="menu"):
    dish: str


class Menu(Actor):
    """Returns prices."""

    name = "menu"

    @query
    async def get_price(self, message: GetPrice) -> Price:
        if message.dish not in PRICES:
            not_found(f"the menu has no {message.dish}")
        return Price(message.dish, PRICES[message.dish])


# The kitchen does not depend on bills. It handles commands and emits events, which are named in the past tense.


class CookDish(Command[None], actor="kitchen", key="table"):
    table: str
    dish: str


class DishCooked(Event, actor="kitchen", key="table"):
    table: str
    dish: str


class Cooked(Struct, frozen=True):
    dishes: tuple[str, ...] = ()


class Kitchen(Actor[Cooked]):
    """Cooks dishes."""

    name = "kitchen"

    @command
    async def cook_dish(self, message: CookDish) -> None:
        self.state = Cooked((*(self.state or Cooked()).dishes, message.dish))
        self.emit(DishCooked(message.table, message.dish))


# The bills are the hybrid.


class Line(Struct, frozen=True):
    dish: str
    price: int
    served: bool = False


class Bill(Struct, frozen=True):
    table: str
    lines: tuple[Line, ...] = ()


class GetBill(Query[Bill], actor="bills", key="table"):
    table: str


class OrderDish(Command[Line], actor="bills", key="table"):
    table: str
    dish: str


class DishOrdered(Event, actor="bills", key="table"):  # actorloom: ignore[unread-event] - for anyone
    table: str
    line: Line


class Bills(Actor[Bill]):
    """Keeps one bill per table."""

    name = "bills"

    @query
    async def get_bill(self, message: GetBill) -> Bill:
        return self.state or Bill(message.table)

    @command
    async def order_dish(self, message: OrderDish) -> Line:
        # A query changes nothing and may be repeated. An error of a query that is not caught fails this handler. Here the
        # domain has an answer to one, so it is caught.
        try:
            price = await self.query(GetPrice(message.dish))
        except NotFound as missing:
            not_found(str(missing))
        # The id of a nested command is derived from the id of the handled message. If this handler runs again, for example
        # after a crash, the kitchen does not cook twice. The command is no part of this turn: the kitchen cooks at once, and
        # the dish stays cooked, even if this turn is not stored in the end. What must go together with the bill is an event.
        await self.command(CookDish(message.table, message.dish))
        line = Line(message.dish, price.price)
        bill = self.state or Bill(message.table)
        self.state = replace(bill, lines=(*bill.lines, line))
        # An event is published if and only if this turn commits.
        self.emit(DishOrdered(message.table, line))
        return line

    # An event is delivered at least once and takes effect once, in order per table. The dish may be cooked before
    # `order_dish` has returned; the reaction then waits in the lane of the table.
    @react
    async def on_dish_cooked(self, event: DishCooked) -> None:
        if self.state is not None:
            lines = [replace(line, served=line.served or line.dish == event.dish) for line in self.state.lines]
            self.state = replace(self.state, lines=tuple(lines))


async def main() -> None:
    async with local(Menu, Kitchen, Bills) as bus:
        for dish in ("soup", "bread", "unicorn"):
            try:
                line = await bus.command(OrderDish("4", dish))
                print(f"ordered: {line.dish} for {line.price}")
            except NotFound as missing:
                print(missing)

        # A reaction runs in the background, a moment after the event. Repeat the query until its effect is there.
        bill = await bus.query(GetBill("4"))
        while not all(line.served for line in bill.lines):
            await asyncio.sleep(0.01)
            bill = await bus.query(GetBill("4"))
        served = ", ".join(f"{line.dish} (served)" for line in bill.lines)
        print(f"table {bill.table} pays {sum(line.price for line in bill.lines)} for {served}")


if __name__ == "__main__":
    asyncio.run(main())
