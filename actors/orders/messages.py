"""The contracts of the orders service, and its shared type `Order`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runtime import Command, Event, Query, new_key

from ..delivery.messages import Address
from ..products.messages import Amount, Id, OrderedProduct, OrderedProducts

Status = Literal["NEW", "PACKAGED", "PACKAGING_FAILED", "FULFILLED", "DELIVERY_FAILED"]


class OrderRequest(Struct, frozen=True, rename="camel"):
    """The products a user wants to buy, with the prices the user was shown."""

    products: Annotated[OrderedProducts, Meta(min_length=1)]
    address: Address
    delivery_price: Amount
    payment_token: Id


class Order(Struct, frozen=True, rename="camel"):
    """One order. Dates are ISO 8601 in UTC with a fixed width; `total` includes the delivery."""

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
    """The outcome of `CreateOrder`: the order, or the reasons why it is invalid."""

    success: bool
    message: Literal["Order created", "Validation errors"]
    order: Order | None = None
    errors: tuple[str, ...] = ()


class OrderPage(Struct, frozen=True, rename="camel", omit_defaults=True):
    """One page of orders, and the token of the next page."""

    orders: list[Order]
    next_token: str | None = None


class GetOrder(Query[Order], actor="orders", key="order_id", rename="camel"):
    """Return an order."""

    order_id: Id


class ListOrders(Query[OrderPage], actor="orders", rename="camel"):
    """Return the orders of one user, newest first."""

    user_id: Id
    next_token: str | None = None


class CreateOrder(Command[OrderCreation], actor="orders", key=new_key, rename="camel"):
    """Create an order if its prices are right and the payment token covers its total."""

    user_id: Id
    order: OrderRequest


class DeleteOrder(Command[None], actor="orders", key="order_id", rename="camel"):
    """Delete an order. It is rejected once the order is packaged."""

    order_id: Id


class OrderCreated(Event, Order, actor="orders", key="order_id"):
    """An order was created. The body is the order."""


class OrderModified(Event, actor="orders", key="new.order_id"):
    """An order changed. `changed` has the dotted paths of the fields that differ."""

    old: Order
    new: Order
    changed: tuple[str, ...]


class OrderDeleted(Event, Order, actor="orders", key="order_id"):
    """An order was deleted. The body is its last state."""
