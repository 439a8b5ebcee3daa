"""The warehouse service: packaging requests, and changes of the order before packing begins."""

from typing import Any

import pytest
from msgspec.structs import replace

from actorloom_shop.orders.messages import OrderCreated, OrderDeleted, OrderModified
from actorloom_shop.products.messages import OrderedProduct
from actorloom_shop.replies import Done
from actorloom_shop.warehouse.actor import Packaging, Warehouse
from actorloom_shop.warehouse.messages import (
    CompletePackaging,
    GetPackagingRequest,
    PackageCreated,
    PackagingFailed,
    PackagingRequest,
    PackedProduct,
    StartPackaging,
    UpdatePackagingProduct,
)
from actorloom_shop.warehouse.packaging import with_difference
from runtime import NotFound, Rejected
from runtime.testing import worker
from tests.actors.samples import ORDER, SHIRT, SHOES, order

BOTH = (PackedProduct("shirt", 2), PackedProduct("shoes", 1))
NEW = Packaging("1", "NEW", BOTH, ORDER.modified_date)
PACKING = replace(NEW, status="IN_PROGRESS")
LATER = "2026-01-02T00:00:00.000000Z"
EARLIER = "2025-12-31T00:00:00.000000Z"


async def test_an_order_opens_a_packaging_request() -> None:
    warehouse = worker(Warehouse, key="1")
    await warehouse.on_order_created(OrderCreated.of(ORDER))
    assert warehouse.state == NEW
    assert warehouse.emitted == []


@pytest.mark.parametrize("date", [ORDER.modified_date, LATER])
async def test_an_order_that_is_not_newer_is_skipped(date: str) -> None:
    known = replace(NEW, modified_date=date, products=())
    warehouse = worker(Warehouse, key="1", state=known)
    await warehouse.on_order_created(OrderCreated.of(ORDER))
    assert warehouse.state == known


async def test_a_newer_order_replaces_the_packaging_request() -> None:
    warehouse = worker(Warehouse, key="1", state=replace(NEW, modified_date=EARLIER, products=()))
    await warehouse.on_order_created(OrderCreated.of(ORDER))
    assert warehouse.state == NEW


def modified(*products: OrderedProduct, date: str = LATER) -> OrderModified:
    return OrderModified(ORDER, order(products=products, modified_date=date), ("products", "modifiedDate"))


async def test_a_change_of_an_unknown_order_opens_a_request() -> None:
    warehouse = worker(Warehouse, key="1")
    await warehouse.on_order_modified(modified(SHOES))
    assert warehouse.state == Packaging("1", "NEW", BOTH[1:], LATER)


async def test_a_change_before_packing_is_applied() -> None:
    warehouse = worker(Warehouse, key="1", state=NEW)
    await warehouse.on_order_modified(modified(replace(SHIRT, quantity=5)))
    assert warehouse.state == Packaging("1", "NEW", (PackedProduct("shirt", 5),), LATER)


@pytest.mark.parametrize("status", ["IN_PROGRESS", "COMPLETED"])
async def test_a_change_after_packing_began_is_ignored(status: Any) -> None:
    started = replace(NEW, status=status)
    warehouse = worker(Warehouse, key="1", state=started)
    await warehouse.on_order_modified(modified(SHOES))
    assert warehouse.state == started


async def test_an_old_change_is_ignored() -> None:
    warehouse = worker(Warehouse, key="1", state=NEW)
    await warehouse.on_order_modified(modified(SHOES, date=ORDER.modified_date))
    assert warehouse.state == NEW


def test_only_changes_of_products_match() -> None:
    [handler] = Warehouse.handlers.reactions[OrderModified]
    assert handler.matches is not None
    assert handler.matches({"changed": ["status", "products"]})
    assert not handler.matches({"changed": ["status", "total"]})


def test_a_difference_drops_changes_and_adds_products() -> None:
    hat, tie = replace(SHIRT, product_id="hat", quantity=7), replace(SHIRT, product_id="tie")
    products = with_difference((*BOTH, PackedProduct("tie", 9)), old=(SHIRT, SHOES, tie), new=(SHIRT, hat, tie))
    assert products == (PackedProduct("shirt", 2), PackedProduct("tie", 9), PackedProduct("hat", 7))


async def test_a_deleted_order_is_not_packed() -> None:
    warehouse = worker(Warehouse, key="1", state=NEW)
    await warehouse.on_order_deleted(OrderDeleted.of(ORDER))
    assert warehouse.state is None


@pytest.mark.parametrize("status", ["IN_PROGRESS", "COMPLETED"])
async def test_a_started_packaging_request_is_not_deleted(status: Any) -> None:
    started = replace(NEW, status=status)
    warehouse = worker(Warehouse, key="1", state=started)
    await warehouse.on_order_deleted(OrderDeleted.of(ORDER))
    assert warehouse.state == started


async def test_a_packaging_request_is_started_updated_and_completed() -> None:
    warehouse = worker(Warehouse, key="1", state=NEW)
    assert await warehouse.start_packaging(StartPackaging("1")) == Done()
    assert warehouse.state == PACKING
    assert await warehouse.update_packaging_product(UpdatePackagingProduct("1", "shirt", 1)) == Done()
    assert await warehouse.update_packaging_product(UpdatePackagingProduct("1", "shoes", 0)) == Done()
    assert warehouse.state is not None
    assert warehouse.state.products == (PackedProduct("shirt", 1), PackedProduct("shoes", 0))
    assert warehouse.emitted == []
    assert await warehouse.complete_packaging(CompletePackaging("1")) == Done()
    assert warehouse.state.status == "COMPLETED"
    assert warehouse.emitted == [PackageCreated("1", (PackedProduct("shirt", 1),))]


async def test_packaging_fails_if_no_product_is_left() -> None:
    nothing = tuple(replace(product, quantity=0) for product in BOTH)
    warehouse = worker(Warehouse, key="1", state=replace(PACKING, products=nothing))
    await warehouse.complete_packaging(CompletePackaging("1"))
    assert warehouse.emitted == [PackagingFailed("1")]
    assert warehouse.state is not None
    assert warehouse.state.status == "COMPLETED"


@pytest.mark.parametrize(
    ("message", "right"),
    [
        (StartPackaging("1"), "NEW"),
        (UpdatePackagingProduct("1", "shirt", 1), "IN_PROGRESS"),
        (CompletePackaging("1"), "IN_PROGRESS"),
    ],
)
@pytest.mark.parametrize("status", ["NEW", "IN_PROGRESS", "COMPLETED"])
async def test_a_command_in_the_wrong_status_is_rejected(message: Any, right: str, status: Any) -> None:
    if status == right:
        return
    warehouse = worker(Warehouse, key="1", state=replace(NEW, status=status))
    with pytest.raises(Rejected, match=f"Packaging request is {status}, not {right}"):
        await getattr(warehouse, message.__contract__.name)(message)
    assert warehouse.emitted == []


async def test_a_product_that_was_not_ordered_is_not_found() -> None:
    warehouse = worker(Warehouse, key="1", state=PACKING)
    with pytest.raises(NotFound, match="Product 'hat' is not in the packaging request"):
        await warehouse.update_packaging_product(UpdatePackagingProduct("1", "hat", 1))


async def test_an_unknown_request_is_not_found() -> None:
    with pytest.raises(NotFound, match="Packaging request not found"):
        await worker(Warehouse, key="1").get_packaging_request(GetPackagingRequest("1"))
    with pytest.raises(NotFound, match="Packaging request not found"):
        await worker(Warehouse, key="1").start_packaging(StartPackaging("1"))


async def test_a_packaging_request_is_returned_without_the_date_stored_with_it() -> None:
    reply = await worker(Warehouse, key="1", state=NEW).get_packaging_request(GetPackagingRequest("1"))
    assert reply == PackagingRequest("1", "NEW", BOTH)
