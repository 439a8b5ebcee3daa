"""The contracts of the delivery service, and its shared type `Address`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runtime import Command, Event, Query

from ..products.messages import Id, OrderedProducts
from ..replies import Done

Status = Literal["NEW", "IN_PROGRESS", "COMPLETED", "FAILED"]


class Address(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A postal address with the recipient's name and phone number."""

    name: str
    street_address: str
    city: str
    country: Annotated[str, Meta(pattern="^[A-Za-z]{2}$", description="two letters (ISO 3166-1 alpha-2)")]
    phone_number: str
    company_name: str | None = None
    post_code: str | None = None
    state: str | None = None


class Delivery(Struct, frozen=True, rename="camel"):
    """The delivery of one order. `created_date` is ISO 8601 in UTC."""

    order_id: Id
    address: Address
    status: Status
    created_date: str


class Pricing(Struct, frozen=True):
    """The price of a delivery, in the smallest unit of the shop's currency."""

    pricing: int


class DeliveryPage(Struct, frozen=True, rename="camel", omit_defaults=True):
    """One page of deliveries, and the token of the next page."""

    deliveries: list[Delivery]
    next_token: str | None = None


class GetDeliveryPricing(Query[Pricing], actor="delivery"):
    """Return the price of delivering some products to an address."""

    products: OrderedProducts
    address: Address


class GetDelivery(Query[Delivery], actor="delivery", key="order_id", rename="camel"):
    """Return the delivery of an order."""

    order_id: Id


class ListNewDeliveries(Query[DeliveryPage], actor="delivery", rename="camel"):
    """Return the deliveries that are not started yet, oldest first."""

    next_token: str | None = None


class StartDelivery(Command[Done], actor="delivery", key="order_id", rename="camel"):
    """Move a delivery from NEW to IN_PROGRESS. Any other status is rejected."""

    order_id: Id


class CompleteDelivery(Command[Done], actor="delivery", key="order_id", rename="camel"):
    """Move a delivery from IN_PROGRESS to COMPLETED. Any other status is rejected."""

    order_id: Id


class FailDelivery(Command[Done], actor="delivery", key="order_id", rename="camel"):
    """Move a delivery from IN_PROGRESS to FAILED. Any other status is rejected."""

    order_id: Id


class DeliveryCompleted(Event, actor="delivery", key="order_id", rename="camel"):
    """The products of an order were delivered."""

    order_id: str
    address: Address


class DeliveryFailed(Event, actor="delivery", key="order_id", rename="camel"):
    """The delivery of an order failed for good."""

    order_id: str
    address: Address
