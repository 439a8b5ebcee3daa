"""Messages of two actors, for the typing snippets."""

import msgspec

from runtime import Accepted, Command, Event, Query, new_key


class Order(msgspec.Struct, frozen=True):
    order_id: str
    total: int = 0


class GetOrder(Query[Order], actor="orders", key="order_id"):
    order_id: str


class FindOrder(Query[Order | None], actor="orders", key="order_id"):
    order_id: str


class ListOrders(Query[list[Order]], actor="orders"):
    limit: int = 20


class CreateOrder(Command[Order], actor="orders", key=new_key):
    total: int


class Draft(msgspec.Struct, frozen=True, tag=True):
    total: int = 0


class Paid(msgspec.Struct, frozen=True, tag=True):
    total: int


class OrderPaid(Event, actor="orders", key="order_id"):
    order_id: str
    amount: int


class CancelOrder(Command[None], actor="orders", key="order_id"):
    order_id: str


class ImportOrders(Command[Accepted], actor="orders", key="order_id"):
    order_id: str


class OrderCreated(Event, actor="orders", key="order_id"):
    order_id: str
    total: int


class AskGateway(Query[Order | None], actor="gateway"):
    order_id: str
