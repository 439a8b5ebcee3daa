"""The orders service: validation of new orders, and their statuses during packing and delivery."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actorloom_shop.delivery.messages import DeliveryCompleted, DeliveryFailed, GetDeliveryPricing, Pricing
from actorloom_shop.orders.actor import Orders
from actorloom_shop.orders.messages import (
    CreateOrder,
    DeleteOrder,
    GetOrder,
    Order,
    OrderCreated,
    OrderDeleted,
    OrderModified,
    OrderRequest,
)
from actorloom_shop.orders.order import advanced, packed, total
from actorloom_shop.payment.messages import PaymentValidation, ValidatePayment
from actorloom_shop.products.messages import PartialProduct, ProductsValidation, ValidateProducts
from actorloom_shop.warehouse.messages import PackageCreated, PackagingFailed, PackedProduct
from runtime import DeadlineExceeded, NotDelivered, NotFound, Rejected
from runtime.testing import worker
from tests.actors.samples import ADDRESS, ORDER, REQUEST, SHIRT, SHOES, order

VALID: dict[type, Any] = {
    GetDeliveryPricing: Pricing(1000),
    ValidatePayment: PaymentValidation(True),
    ValidateProducts: ProductsValidation("All products are valid", []),
}
CREATE = CreateOrder("ann", REQUEST)
PACKED = PackageCreated("1", (PackedProduct("shirt", 2), PackedProduct("shoes", 1)))


async def test_a_valid_order_is_created() -> None:
    orders = worker(Orders, key="1", replies=VALID, now=1.0)
    creation = await orders.create_order(CREATE)
    date = "1970-01-01T00:00:01.000000Z"
    created = order(created_date=date, modified_date=date)
    assert (creation.success, creation.message, creation.order, creation.errors) == (True, "Order created", created, ())
    assert orders.state == created
    assert orders.emitted == [OrderCreated.of(created)]


async def test_three_services_are_queried() -> None:
    orders = worker(Orders, key="1", replies=VALID)
    await orders.create_order(CREATE)
    claims = (
        PartialProduct("shirt", "Shirt", SHIRT.package, 500, 2),
        PartialProduct("shoes", "Shoes", SHOES.package, 3000, 1),
    )
    assert sorted(orders.sent, key=lambda message: type(message).__name__) == [
        GetDeliveryPricing(REQUEST.products, ADDRESS),
        ValidatePayment("token", 5000),
        ValidateProducts(claims),
    ]


@pytest.mark.parametrize(
    ("query_type", "reply", "error"),
    [
        (GetDeliveryPricing, Pricing(2000), "Wrong delivery price: got 1000, expected 2000"),
        (GetDeliveryPricing, NotDelivered("no service"), "Failure to contact the delivery service"),
        (ValidatePayment, PaymentValidation(False), "Wrong payment token"),
        (ValidatePayment, DeadlineExceeded("late"), "Failure to contact the payment service"),
        (ValidateProducts, ProductsValidation("Product 'x' not found", [PartialProduct("x")]), "Product 'x' not found"),
        (ValidateProducts, NotDelivered("no service"), "Failure to contact the products service"),
    ],
)
async def test_an_invalid_order_is_a_reply_and_is_not_created(query_type: type, reply: Any, error: str) -> None:
    orders = worker(Orders, key="1", replies={**VALID, query_type: reply})
    creation = await orders.create_order(CREATE)
    assert (creation.success, creation.message, creation.order) == (False, "Validation errors", None)
    assert creation.errors == (error,)
    assert orders.state is None
    assert orders.emitted == []


async def test_every_error_is_collected() -> None:
    wrong = ProductsValidation("Product 'shoes' not found", [PartialProduct("shoes")])
    replies = {GetDeliveryPricing: Pricing(0), ValidatePayment: PaymentValidation(False), ValidateProducts: wrong}
    request = replace(REQUEST, products=(SHIRT, SHIRT, SHOES))
    creation = await worker(Orders, key="1", replies=replies).create_order(CreateOrder("ann", request))
    assert creation.errors == (
        "Product 'shirt' is listed 2 times",
        "Wrong delivery price: got 1000, expected 0",
        "Wrong payment token",
        "Product 'shoes' not found",
    )


async def test_a_command_whose_dedup_entry_expired_does_not_create_the_order_again() -> None:
    orders = worker(Orders, key="1", state=order(status="PACKAGED"))
    creation = await orders.create_order(CREATE)
    assert (creation.success, creation.order) == (True, order(status="PACKAGED"))
    assert orders.emitted == []


def test_unknown_fields_of_products_are_dropped() -> None:
    body = msgspec.json.decode(msgspec.json.encode(REQUEST))
    body["products"][0] |= {"tags": ["a"], "pictures": ["b"], "createdDate": "c", "category": "d"}
    assert msgspec.json.decode(msgspec.json.encode(body), type=OrderRequest) == REQUEST


def test_an_order_on_the_wire_is_flat_and_camel_case() -> None:
    body = msgspec.json.decode(msgspec.json.encode(OrderCreated.of(ORDER)))
    assert list(body) == [
        "orderId", "userId", "status", "createdDate", "modifiedDate", "products", "address", "deliveryPrice",
        "paymentToken", "total",
    ]  # fmt: skip
    assert list(body["products"][0]) == ["productId", "name", "package", "price", "quantity"]
    assert list(body["address"]) == ["name", "streetAddress", "city", "country", "phoneNumber"]


async def test_a_package_moves_the_order_to_packaged() -> None:
    orders = worker(Orders, key="1", state=ORDER, now=1.0)
    await orders.on_package_created(PACKED)
    new = order(status="PACKAGED", modified_date="2026-01-01T00:00:00.000001Z")
    assert orders.state == new
    assert orders.emitted == [OrderModified(ORDER, new, ("status", "modifiedDate"))]


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (PackagingFailed("1"), "PACKAGING_FAILED"),
        (DeliveryCompleted("1", ADDRESS), "FULFILLED"),
        (DeliveryFailed("1", ADDRESS), "DELIVERY_FAILED"),
    ],
)
async def test_an_event_moves_the_order_to_its_final_status(event: Any, status: Any) -> None:
    orders = worker(Orders, key="1", state=order(status="PACKAGED"))
    await getattr(orders, f"on_{event.__contract__.name}")(event)
    assert orders.state is not None
    assert orders.state.status == status
    [modified] = orders.emitted
    assert isinstance(modified, OrderModified)
    assert modified.changed == ("status", "modifiedDate")


@pytest.mark.parametrize("event", [PACKED, PackagingFailed("1"), DeliveryCompleted("1", ADDRESS)])
async def test_events_of_a_deleted_order_are_ignored(event: Any) -> None:
    orders = worker(Orders, key="1")
    await getattr(orders, f"on_{event.__contract__.name}")(event)
    assert orders.state is None
    assert orders.emitted == []


async def test_a_new_order_can_be_deleted() -> None:
    orders = worker(Orders, key="1", state=ORDER)
    await orders.delete_order(DeleteOrder("1"))
    assert orders.state is None
    assert orders.emitted == [OrderDeleted.of(ORDER)]


async def test_a_packaged_order_cannot_be_deleted() -> None:
    orders = worker(Orders, key="1", state=order(status="PACKAGED"))
    with pytest.raises(Rejected, match="Order is PACKAGED, not NEW"):
        await orders.delete_order(DeleteOrder("1"))


async def test_an_unknown_order_is_not_found() -> None:
    with pytest.raises(NotFound, match="Order not found"):
        await worker(Orders, key="1").get_order(GetOrder("1"))
    assert await worker(Orders, key="1", state=ORDER).get_order(GetOrder("1")) == ORDER


def test_the_total_includes_all_products_and_the_delivery() -> None:
    assert total((SHIRT, SHOES), 1000) == 5000
    assert total((), 0) == 0


statuses = st.sampled_from(["NEW", "PACKAGED", "PACKAGING_FAILED", "FULFILLED", "DELIVERY_FAILED"])


@given(st.lists(statuses, max_size=6))
def test_a_status_never_goes_back(events: list[Any]) -> None:
    now: Order = ORDER
    seen = ["NEW"]
    for status in events:
        now = advanced(now, status)
        if now.status != seen[-1]:
            seen.append(now.status)
    assert seen in (["NEW"], ["NEW", "PACKAGED"]) or (
        seen[-1] in ("PACKAGING_FAILED", "FULFILLED", "DELIVERY_FAILED") and seen[:-1] in (["NEW"], ["NEW", "PACKAGED"])
    )


@given(st.dictionaries(st.sampled_from(["shirt", "shoes", "hat"]), st.integers(1, 9)))
def test_packing_changes_only_quantities_and_the_total(quantities: dict[str, int]) -> None:
    new = packed(ORDER, [PackedProduct(product_id, quantity) for product_id, quantity in quantities.items()])
    ordered = {product.product_id: product for product in ORDER.products}
    assert {product.product_id: product.quantity for product in new.products} == {
        product_id: quantity for product_id, quantity in quantities.items() if product_id in ordered
    }
    for product in new.products:
        assert replace(product, quantity=ordered[product.product_id].quantity) == ordered[product.product_id]
    assert new.total == total(new.products, ORDER.delivery_price)
