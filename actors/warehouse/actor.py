"""The warehouse service: opens a packaging request for each order and packs it."""

from functools import partial

from msgspec import Struct, convert
from msgspec.structs import replace
from opentelemetry import metrics

from runtime import Actor, Index, NotFound, Rejected, command, not_found, query, react

from ..orders.messages import Order, OrderCreated, OrderDeleted, OrderModified
from ..replies import Done
from .messages import (
    CompletePackaging,
    GetPackagingRequest,
    ListNewPackagingRequests,
    PackageCreated,
    PackagingFailed,
    PackagingRequest,
    PackagingRequestPage,
    PackedProduct,
    StartPackaging,
    Status,
    UpdatePackagingProduct,
)
from .packaging import packed, to_pack, with_difference, with_quantity

NOT_FOUND = "Packaging request not found"

PACKAGES = metrics.get_meter("actorloom_shop.warehouse").create_counter(
    "shop.packages", unit="{package}", description="Finished packaging requests, by outcome"
)


class Packaging(Struct, frozen=True):
    """The stored state: a packaging request, and the modification date of the order it was last taken from."""

    order_id: str
    status: Status
    products: tuple[PackedProduct, ...]
    modified_date: str


class Warehouse(Actor[Packaging], indexes=[Index("status", order="modified_date")]):
    """One packaging request per order. Its status goes from NEW to IN_PROGRESS to COMPLETED."""

    name = "warehouse"

    @query
    async def get_packaging_request(self, message: GetPackagingRequest) -> PackagingRequest:
        return _request(self.state or not_found(NOT_FOUND))

    @query
    async def list_new_packaging_requests(self, message: ListNewPackagingRequests) -> PackagingRequestPage:
        page = await self.list(status="NEW", order="modified_date", after=message.next_token)
        return PackagingRequestPage([_request(packaging) for packaging in page.items], page.next)

    @react
    async def on_order_created(self, event: OrderCreated) -> None:
        if self.state is None or self.state.modified_date < event.modified_date:
            self.state = _opened(event)

    @react(where={"changed": ["products"]})
    async def on_order_modified(self, event: OrderModified) -> None:
        """Apply changed products. The change is ignored if packing has begun or the stored order is newer."""
        packaging = self.state
        if packaging is None:
            self.state = _opened(event.new)
        elif packaging.status == "NEW" and packaging.modified_date < event.new.modified_date:
            products = with_difference(packaging.products, event.old.products, event.new.products)
            self.state = replace(packaging, products=products, modified_date=event.new.modified_date)

    @react
    async def on_order_deleted(self, event: OrderDeleted) -> None:
        if self.state is not None and self.state.status == "NEW":
            self.state = None

    @command
    async def start_packaging(self, message: StartPackaging) -> Done:
        self.state = replace(self._in_status("NEW"), status="IN_PROGRESS")
        return Done()

    @command
    async def update_packaging_product(self, message: UpdatePackagingProduct) -> Done:
        packaging = self._in_status("IN_PROGRESS")
        products = with_quantity(packaging.products, message.product_id, message.quantity)
        if products is None:
            raise NotFound(f"Product '{message.product_id}' is not in the packaging request")
        self.state = replace(packaging, products=products)
        return Done()

    @command
    async def complete_packaging(self, message: CompletePackaging) -> Done:
        packaging = self._in_status("IN_PROGRESS")
        self.state = replace(packaging, status="COMPLETED")
        products = packed(packaging.products)
        if products:
            self.emit(PackageCreated(packaging.order_id, products))
        else:
            self.emit(PackagingFailed(packaging.order_id))
        self.on_commit(partial(PACKAGES.add, 1, {"outcome": "created" if products else "failed"}))
        return Done()

    def _in_status(self, expected: Status) -> Packaging:
        packaging = self.state or not_found(NOT_FOUND)
        if packaging.status != expected:
            raise Rejected(f"Packaging request is {packaging.status}, not {expected}")
        return packaging


def _opened(order: Order | OrderCreated) -> Packaging:
    return Packaging(order.order_id, "NEW", to_pack(order.products), order.modified_date)


def _request(packaging: Packaging) -> PackagingRequest:
    return convert(packaging, PackagingRequest, from_attributes=True)
