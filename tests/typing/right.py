"""Right code: the type checker reports no error and knows the type of every reply."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, assert_type

from runtime import (
    Accepted,
    Actor,
    Event,
    Index,
    Message,
    Options,
    Page,
    RetryPolicy,
    command,
    connect,
    not_found,
    query,
    react,
)
from runtime.testing import Actors, Replies, Timer, repeated, worker
from tests.typing.contracts import (
    AskGateway,
    CancelOrder,
    CreateOrder,
    Draft,
    FindOrder,
    GetOrder,
    ImportOrders,
    ListOrders,
    Order,
    OrderCreated,
    OrderPaid,
    Paid,
)


class Orders(Actor[Order], indexes=[Index(order="total")]):
    name = "orders"
    options = Options(lane=16, retry=RetryPolicy(attempts=3))

    @query
    async def get_order(self, message: GetOrder) -> Order:
        assert_type(self.state, Order | None)
        return self.state or not_found(message.order_id)

    @query
    async def list_orders(self, message: ListOrders) -> list[Order]:
        page = await self.list(order="-total", limit=message.limit)
        assert_type(page, Page[Order])
        assert_type(page.next, str | None)
        return page.items

    @command
    async def create_order(self, message: CreateOrder) -> Order:
        other = await self.query(GetOrder("1"))
        assert_type(other, Order)
        assert_type(await self.query(FindOrder("1")), Order | None)
        await self.command(CancelOrder("1"))
        self.state = Order(self.key, message.total)
        self.emit(OrderCreated.of(self.state, total=1))
        self.remind(5, CancelOrder(self.key), name="cancel")
        self.schedule("@daily", CancelOrder(self.key), name="daily", zone="Europe/Berlin")
        self.cancel("daily")
        self.on_commit(lambda: print("committed"))
        return self.state

    @command(accept=True)
    async def import_orders(self, message: ImportOrders) -> None:
        self.state = None

    @react(where={"total": [{"numeric": [">", 5]}]}, attempts=2)
    async def on_order_created(self, event: OrderCreated) -> None:
        assert_type(event.total, int)


class Trades(Actor[Draft | Paid], indexes=[Index("type"), Index(("type", "total"))]):
    name = "trades"

    @react(since="new")
    async def on_change(self, event: OrderCreated | OrderPaid) -> None:
        assert_type(event.order_id, str)
        match self.state:
            case Draft(total):
                assert_type(total, int)
                self.state = Paid(total)
            case Paid() | None:
                self.state = Draft()
        page = await self.list(type="Paid", total=5)
        assert_type(page.items, list[Draft | Paid])


S = TypeVar("S")


class Audited(Actor[S]):
    async def on_message(self, message: Message, handle: Callable[[], Awaitable[Any]]) -> Any:
        return await super().on_message(message, handle)


class Metered(Actor[S]):
    pass


class AuditedTrades(Audited[Draft | Paid], Metered[Draft | Paid]):
    name = "trades"

    @react
    async def on_paid(self, event: OrderPaid) -> None:
        assert_type(self.state, Draft | Paid | None)


class AuditedGateway(Audited[None]):
    name = "gateway"


class Gateway(Actor):
    name = "gateway"

    @query
    async def ask(self, message: AskGateway) -> Order | None:
        return await self.query(FindOrder(message.order_id))


async def tested() -> None:
    orders = worker(Orders, key="1")
    assert_type(await orders.actor.create_order(CreateOrder(5)), Order)
    assert_type(orders.emitted, list[Event])
    assert_type(orders.timers, list[Timer])
    await orders.create_order(CreateOrder(5))


async def found_later(message: FindOrder) -> Order | None:
    return None


async def tested_with_fixtures(actors: Actors) -> None:
    replies: Replies = {GetOrder: Order("1", 5)}
    more: Replies = {
        **replies,
        FindOrder: found_later,
        CancelOrder: ValueError("late"),
        CreateOrder: lambda message: None,
    }
    worker(Orders, replies=more)
    await repeated(Orders, CreateOrder(5), replies=replies)
    async with actors(Orders, Trades, lease_ttl=2.0) as system:
        assert_type(await system.bus.query(GetOrder("1")), Order)


async def program() -> None:
    async with connect("nats://127.0.0.1:4222", namespace="test") as bus:
        assert_type(await bus.query(GetOrder("1")), Order)
        assert_type(await bus.query(ListOrders()), list[Order])
        assert_type(await bus.command(CreateOrder(5), id="x", timeout=2), Order)
        assert_type(await bus.command(ImportOrders("1")), Accepted)
        assert_type(await bus.retry(CreateOrder(5)), Order)
        await bus.command(CancelOrder("1"))
        await bus.emit(OrderCreated("1", 5))
