"""The delivery service: prices, and the statuses of a delivery."""

from typing import Any

import pytest
from msgspec.structs import replace

from actorloom_shop.delivery.actor import Deliveries
from actorloom_shop.delivery.messages import (
    CompleteDelivery,
    Delivery,
    DeliveryCompleted,
    DeliveryFailed,
    FailDelivery,
    GetDelivery,
    GetDeliveryPricing,
    Pricing,
    StartDelivery,
)
from actorloom_shop.delivery.pricing import delivery_price
from actorloom_shop.orders.messages import GetOrder
from actorloom_shop.products.messages import OrderedProduct, Package
from actorloom_shop.replies import Done
from actorloom_shop.warehouse.messages import PackageCreated, PackedProduct
from runtime import NotDelivered, NotFound, Rejected, Retry
from runtime.testing import worker
from tests.actors.samples import ADDRESS, ORDER, SHIRT

NEW = Delivery("1", ADDRESS, "NEW", "2026-01-01T00:00:00.000000Z")
PACKED = PackageCreated("1", (PackedProduct("shirt", 2),))


def box(side: int = 1, weight: int = 1, quantity: int = 1) -> OrderedProduct:
    return OrderedProduct("box", "Box", Package(side, side, side, weight), price=1, quantity=quantity)


@pytest.mark.parametrize(
    ("products", "parcels"),
    [
        ([], 0),
        ([box()], 1),
        ([box(500)], 1),
        ([box(501)], 2),
        ([box(500, quantity=2)], 2),
        ([box(500), box(1)], 2),
        ([box(weight=12_000)], 1),
        ([box(weight=12_001)], 2),
        ([box(weight=6_001, quantity=2)], 2),
        ([box(500, weight=12_000, quantity=3)], 3),
        ([box(500, quantity=2), box(weight=40_000)], 4),
    ],
)
def test_the_number_of_parcels_follows_volume_and_weight(products: list[OrderedProduct], parcels: int) -> None:
    assert delivery_price(products, ADDRESS) == parcels * 1000


@pytest.mark.parametrize(
    ("countries", "fee"),
    [
        ("DK FI NO SE", 0),
        ("AT BE BG CY CZ DE EE ES FR GR HR HU IE IT LT LU LV MT NL PL PT RO SI SK", 1000),
        ("CA US", 1500),
        ("CH GB JP PO", 2500),
        ("fr", 1000),
    ],
)
def test_the_fee_depends_on_the_country(countries: str, fee: int) -> None:
    for country in countries.split():
        assert delivery_price([box()], replace(ADDRESS, country=country)) == fee, country


async def test_pricing_is_a_query() -> None:
    delivery = worker(Deliveries)
    assert await delivery.get_delivery_pricing(GetDeliveryPricing((SHIRT,), ADDRESS)) == Pricing(1000)


async def test_a_package_creates_a_delivery_to_the_address_of_its_order() -> None:
    delivery = worker(Deliveries, key="1", replies={GetOrder: ORDER}, now=1.0)
    await delivery.on_package_created(PACKED)
    assert delivery.sent == [GetOrder("1")]
    assert delivery.state == Delivery("1", ADDRESS, "NEW", "1970-01-01T00:00:01.000000Z")
    assert delivery.emitted == []


@pytest.mark.parametrize("status", ["NEW", "IN_PROGRESS", "COMPLETED", "FAILED"])
async def test_an_existing_delivery_is_not_changed_by_a_package(status: Any) -> None:
    there = replace(NEW, status=status)
    delivery = worker(Deliveries, key="1", state=there, replies={GetOrder: ORDER})
    await delivery.on_package_created(PACKED)
    assert delivery.state == there


async def test_a_package_of_an_unknown_order_is_retried() -> None:
    with pytest.raises(Retry, match="no order 1"):
        await worker(Deliveries, key="1", replies={GetOrder: NotFound("Order not found")}).on_package_created(PACKED)
    with pytest.raises(NotDelivered):
        await worker(Deliveries, key="1", replies={GetOrder: NotDelivered("no service")}).on_package_created(PACKED)


async def test_a_delivery_is_started_and_completed() -> None:
    delivery = worker(Deliveries, key="1", state=NEW)
    assert await delivery.start_delivery(StartDelivery("1")) == Done()
    assert delivery.state == replace(NEW, status="IN_PROGRESS")
    assert delivery.emitted == []
    assert await delivery.complete_delivery(CompleteDelivery("1")) == Done()
    assert delivery.state == replace(NEW, status="COMPLETED")
    assert delivery.emitted == [DeliveryCompleted("1", ADDRESS)]


async def test_a_delivery_is_started_and_fails() -> None:
    delivery = worker(Deliveries, key="1", state=replace(NEW, status="IN_PROGRESS"))
    assert await delivery.fail_delivery(FailDelivery("1")) == Done()
    assert delivery.state == replace(NEW, status="FAILED")
    assert delivery.emitted == [DeliveryFailed("1", ADDRESS)]


@pytest.mark.parametrize(
    ("message", "right"),
    [(StartDelivery("1"), "NEW"), (CompleteDelivery("1"), "IN_PROGRESS"), (FailDelivery("1"), "IN_PROGRESS")],
)
@pytest.mark.parametrize("status", ["NEW", "IN_PROGRESS", "COMPLETED", "FAILED"])
async def test_a_command_in_the_wrong_status_is_rejected(message: Any, right: str, status: Any) -> None:
    if status == right:
        return
    delivery = worker(Deliveries, key="1", state=replace(NEW, status=status))
    with pytest.raises(Rejected, match=f"Delivery is {status}, not {right}"):
        await getattr(delivery, message.__contract__.name)(message)
    assert delivery.emitted == []
    assert delivery.state == replace(NEW, status=status)


async def test_an_unknown_delivery_is_not_found() -> None:
    with pytest.raises(NotFound, match="Delivery not found"):
        await worker(Deliveries, key="1").get_delivery(GetDelivery("1"))
    with pytest.raises(NotFound, match="Delivery not found"):
        await worker(Deliveries, key="1").start_delivery(StartDelivery("1"))
    assert await worker(Deliveries, key="1", state=NEW).get_delivery(GetDelivery("1")) == NEW
