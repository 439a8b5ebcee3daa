"""Wrong code: the type checker reports an error in each line with the comment, and in no other line."""

from runtime import Actor, command, connect, query
from tests.typing.contracts import CancelOrder, CreateOrder, FindOrder, GetOrder, Order, OrderCreated


class Orders(Actor[Order]):
    name = "orders"

    @query
    async def get_order(self, message: GetOrder) -> Order:
        return self.state  # wrong: it may be None

    @command
    async def create_order(self, message: CreateOrder) -> Order:
        await self.command(GetOrder("1"))  # wrong: a query is not a command
        await self.query(CancelOrder("1"))  # wrong: a command is not a query
        await self.query(OrderCreated("1", 1))  # wrong: an event is not a query
        self.emit(CancelOrder("1"))  # wrong: only events are emitted
        self.state = OrderCreated("1", 1)  # wrong: not the type of the state
        self.state.total = 5  # wrong: it may be None and is frozen
        self.remind(5, GetOrder("1"))  # wrong: a timer is a command
        order = await self.query(GetOrder("1"))
        print(order.price)  # wrong: no such field
        maybe = await self.query(FindOrder("1"))
        print(maybe.total)  # wrong: it may be None
        text: str = await self.query(GetOrder("1"))  # wrong: the reply is an Order
        return Order(message.total, text)  # wrong: both fields have other types


async def program() -> None:
    async with connect() as bus:
        await bus.command(GetOrder("1"))  # wrong: a query is not a command
        await bus.query(CreateOrder(5))  # wrong: a command is not a query
        await bus.query(GetOrder(1))  # wrong: the id is a string
        await bus.query(GetOrder())  # wrong: a field is missing
        await bus.query(GetOrder("1", color="red"))  # wrong: no such field
        await bus.retry(GetOrder("1"))  # wrong: only commands are retried
        await bus.emit(CreateOrder(5))  # wrong: only events are emitted
        message = GetOrder("1")
        message.order_id = "2"  # wrong: a message is frozen
        bus.query(message)  # wrong: it is not awaited
        count: int = await bus.command(CancelOrder("1"))  # wrong: it has no result
        print(count)
