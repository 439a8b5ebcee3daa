"""The contracts of the warehouse service, and its shared type `PackedProduct`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runtime import Command, Event, Query

from ..products.messages import Id
from ..replies import Done

Status = Literal["NEW", "IN_PROGRESS", "COMPLETED"]


class PackedProduct(Struct, frozen=True, rename="camel"):
    """The packed quantity of a product. It may be 0 while the package is being packed."""

    product_id: Id
    quantity: Annotated[int, Meta(ge=0, le=1_000_000)]


class PackagingRequest(Struct, frozen=True, rename="camel"):
    """The products to pack for an order."""

    order_id: Id
    status: Status
    products: tuple[PackedProduct, ...]


class PackagingRequestPage(Struct, frozen=True, rename="camel", omit_defaults=True):
    """One page of packaging requests, and the token of the next page."""

    packaging_requests: list[PackagingRequest]
    next_token: str | None = None


class GetPackagingRequest(Query[PackagingRequest], actor="warehouse", key="order_id", rename="camel"):
    """Return the packaging request of an order."""

    order_id: Id


class ListNewPackagingRequests(Query[PackagingRequestPage], actor="warehouse", rename="camel"):
    """Return the packaging requests that are not started yet, oldest first."""

    next_token: str | None = None


class StartPackaging(Command[Done], actor="warehouse", key="order_id", rename="camel"):
    """Move a packaging request from NEW to IN_PROGRESS. Any other status is rejected."""

    order_id: Id


class UpdatePackagingProduct(Command[Done], actor="warehouse", key="order_id", rename="camel"):
    """Set the packed quantity of a product, 0 for none. It is rejected unless the request is IN_PROGRESS."""

    order_id: Id
    product_id: Id
    quantity: Annotated[int, Meta(ge=0, le=1_000_000)]


class CompletePackaging(Command[Done], actor="warehouse", key="order_id", rename="camel"):
    """Move a packaging request from IN_PROGRESS to COMPLETED. Any other status is rejected.

    If nothing was packed, the packaging has failed.
    """

    order_id: Id


class PackageCreated(Event, actor="warehouse", key="order_id", rename="camel"):
    """A package is ready for delivery. `products` has its content."""

    order_id: str
    products: tuple[PackedProduct, ...]


class PackagingFailed(Event, actor="warehouse", key="order_id", rename="camel"):
    """The packaging of an order failed: nothing was left to pack."""

    order_id: str
