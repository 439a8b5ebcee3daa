"""Wrong code: the type checker reports an error in each line with the comment, and in no other line."""

from runtime import Accepted, Actor, command, connect, query, react
from runtime.testing import Replies, worker
from tests.typing.contracts import CancelOrder, CreateOrder, FindOrder, GetOrder, ImportOrders, Order, OrderCreated


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


class Handlers(Actor[Order]):
    name = "handlers"

    @command  # wrong: a query has another decorator
    async def get_order(self, message: GetOrder) -> Order:
        return Order("1")

    @query  # wrong: a command has another decorator
    async def create_order(self, message: CreateOrder) -> Order:
        return Order("1")

    @react  # wrong: only events have reactions
    async def cancel_order(self, message: CancelOrder) -> None:
        return None

    @react(attempts=2)  # wrong: an event has no reply
    async def on_order_created(self, event: OrderCreated) -> int:
        return event.total

    @command(accept=True)  # wrong: the reply of a long job is Accepted
    async def cancel_later(self, message: CancelOrder) -> None:
        return None

    @command(accept=True)  # wrong: the handler of a long job returns None
    async def import_orders(self, message: ImportOrders) -> Accepted:
        return Accepted("1")

    @command  # wrong: a handler is a coroutine method
    def find_order(self, message: CancelOrder) -> None:
        return None

    @query  # wrong: a handler has a message
    async def list_orders(self) -> list[Order]:
        return []


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


def tested() -> None:
    replies: Replies = {"GetOrder": 5}  # wrong: the key is no message type
    worker(Handlers, replies=replies)
