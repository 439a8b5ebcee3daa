"""The contracts of the orders service, and the type that it owns: `Order`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runtime import Command, Event, Query, new_key

from ..delivery.messages import Address
from ..products.messages import Amount, Id, OrderedProduct, OrderedProducts

Status = Literal["NEW", "PACKAGED", "PACKAGING_FAILED", "FULFILLED", "DELIVERY_FAILED"]


class OrderRequest(Struct, frozen=True, rename="camel"):
    """What a user wants to buy, at the prices that they were shown."""

    products: Annotated[OrderedProducts, Meta(min_length=1)]
    address: Address
    delivery_price: Amount
    payment_token: Id


class Order(Struct, frozen=True, rename="camel"):
    """One order. Dates are ISO 8601 in UTC, of a fixed width; `total` is that of the products and the delivery."""

    order_id: Id
    user_id: str
    status: Status
    created_date: str
    modified_date: str
    products: tuple[OrderedProduct, ...]
    address: Address
    delivery_price: int
    payment_token: str
    total: int


class OrderCreation(Struct, frozen=True, omit_defaults=True):
    """Whether an order was created; `errors` says why not."""

    success: bool
    message: Literal["Order created", "Validation errors"]
    order: Order | None = None
    errors: tuple[str, ...] = ()


class OrderPage(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Some orders, and the token of those that follow."""

    orders: list[Order]
    next_token: str | None = None


class GetOrder(Query[Order], actor="orders", key="order_id", rename="camel"):
    order_id: Id


class ListOrders(Query[OrderPage], actor="orders", rename="camel"):
    """The orders of one user, newest first."""

    user_id: Id
    next_token: str | None = None


class CreateOrder(Command[OrderCreation], actor="orders", key=new_key, rename="camel"):
    """Create an order, if the prices are right and the payment is good for its total."""

    user_id: Id
    order: OrderRequest


class DeleteOrder(Command[None], actor="orders", key="order_id", rename="camel"):
    """Take an order back; rejected once it is packaged."""

    order_id: Id


class OrderCreated(Event, Order, actor="orders", key="order_id"):
    """The body is the order."""


class OrderModified(Event, actor="orders", key="new.order_id"):
    """`changed`: dotted paths of what differs between `old` and `new`."""

    old: Order
    new: Order
    changed: tuple[str, ...]


class OrderDeleted(Event, Order, actor="orders", key="order_id"):
    """The body is the order as it was."""
