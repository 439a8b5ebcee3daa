"""The contracts of the warehouse service, and the type that it owns: `PackedProduct`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runtime import Command, Event, Query

from ..products.messages import Id

Status = Literal["NEW", "IN_PROGRESS", "COMPLETED"]


class PackedProduct(Struct, frozen=True, rename="camel"):
    """How many of a product are in the package; while it is being packed that may be none."""

    product_id: Id
    quantity: Annotated[int, Meta(ge=0, le=1_000_000)]


class PackagingRequest(Struct, frozen=True, rename="camel"):
    """What is to be packed for an order."""

    order_id: Id
    status: Status
    products: tuple[PackedProduct, ...]


class PackagingRequestPage(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Some packaging requests, and the token of those that follow."""

    packaging_requests: list[PackagingRequest]
    next_token: str | None = None


class Done(Struct, frozen=True):
    success: bool = True


class GetPackagingRequest(Query[PackagingRequest], actor="warehouse", key="order_id", rename="camel"):
    order_id: Id


class ListNewPackagingRequests(Query[PackagingRequestPage], actor="warehouse", rename="camel"):
    """The requests that wait to be started, oldest first."""

    next_token: str | None = None


class StartPackaging(Command[Done], actor="warehouse", key="order_id", rename="camel"):
    """NEW to IN_PROGRESS; rejected from any other status."""

    order_id: Id


class UpdatePackagingProduct(Command[Done], actor="warehouse", key="order_id", rename="camel"):
    """Say how many of a product are packed, 0 for none; rejected where the request is not IN_PROGRESS."""

    order_id: Id
    product_id: Id
    quantity: Annotated[int, Meta(ge=0, le=1_000_000)]


class CompletePackaging(Command[Done], actor="warehouse", key="order_id", rename="camel"):
    """IN_PROGRESS to COMPLETED; rejected from any other status. Where nothing was packed, the packaging has failed."""

    order_id: Id


class PackageCreated(Event, actor="warehouse", key="order_id", rename="camel"):
    """A package is ready for delivery; `products` has those that are in it."""

    order_id: str
    products: tuple[PackedProduct, ...]


class PackagingFailed(Event, actor="warehouse", key="order_id", rename="camel"):
    """There was nothing left to pack."""

    order_id: str
