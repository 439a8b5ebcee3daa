"""The contracts of the delivery service, and the type that it owns: `Address`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runtime import Command, Event, Query

from ..products.messages import Id, OrderedProducts

Status = Literal["NEW", "IN_PROGRESS", "COMPLETED", "FAILED"]


class Address(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Where to deliver."""

    name: str
    street_address: str
    city: str
    country: Annotated[str, Meta(pattern="^[A-Za-z]{2}$", description="two letters (ISO 3166-1 alpha-2)")]
    phone_number: str
    company_name: str | None = None
    post_code: str | None = None
    state: str | None = None


class Delivery(Struct, frozen=True, rename="camel"):
    """The delivery of one order."""

    order_id: Id
    address: Address
    status: Status
    created_date: str


class Pricing(Struct, frozen=True):
    pricing: int


class DeliveryPage(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Some deliveries, and the token of those that follow."""

    deliveries: list[Delivery]
    next_token: str | None = None


class Done(Struct, frozen=True):
    success: bool = True


class GetDeliveryPricing(Query[Pricing], actor="delivery"):
    """What it costs to deliver these products there."""

    products: OrderedProducts
    address: Address


class GetDelivery(Query[Delivery], actor="delivery", key="order_id", rename="camel"):
    order_id: Id


class ListNewDeliveries(Query[DeliveryPage], actor="delivery", rename="camel"):
    """The deliveries that wait to be started, oldest first."""

    next_token: str | None = None


class StartDelivery(Command[Done], actor="delivery", key="order_id", rename="camel"):
    """NEW to IN_PROGRESS; rejected from any other status."""

    order_id: Id


class CompleteDelivery(Command[Done], actor="delivery", key="order_id", rename="camel"):
    """IN_PROGRESS to COMPLETED; rejected from any other status."""

    order_id: Id


class FailDelivery(Command[Done], actor="delivery", key="order_id", rename="camel"):
    """IN_PROGRESS to FAILED; rejected from any other status."""

    order_id: Id


class DeliveryCompleted(Event, actor="delivery", key="order_id", rename="camel"):
    order_id: str
    address: Address


class DeliveryFailed(Event, actor="delivery", key="order_id", rename="camel"):
    order_id: str
    address: Address
