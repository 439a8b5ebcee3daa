"""The flow of an order over all six services, with failures and changes, driven by plain JSON."""

from typing import Any

import pytest

from runtime.nats.server import EmbeddedServer
from tests.actors.shop import ADDRESS, LINES, PACKAGE, SHIRT, SHOES, Refused, Shop, open_shop


async def test_an_order_goes_from_its_price_to_its_delivery_and_payment(shop: Shop) -> None:
    pricing = await shop.ask("delivery.query.get_delivery_pricing", {"products": LINES, "address": ADDRESS})
    assert pricing == {"pricing": 1000}
    order = await shop.create()
    order_id, token = order["orderId"], order["paymentToken"]
    cut = [{**SHIRT, "quantity": 2}, {**SHOES, "quantity": 1}]
    assert order == {
        "orderId": order_id,
        "userId": "ann",
        "status": "NEW",
        "createdDate": order["createdDate"],
        "modifiedDate": order["createdDate"],
        "products": cut,
        "address": ADDRESS,
        "deliveryPrice": 1000,
        "paymentToken": token,
        "total": 5000,
    }
    assert await shop.order(order_id) == order
    assert await shop.request(order_id) == {
        "orderId": order_id,
        "status": "NEW",
        "products": [{"productId": "shirt", "quantity": 2}, {"productId": "shoes", "quantity": 1}],
    }
    await shop.pack(order_id)
    assert (await shop.order_in(order_id, "PACKAGED"))["total"] == 5000
    delivery = await shop.found("delivery.query.get_delivery", order_id)
    assert (delivery["status"], delivery["address"]) == ("NEW", ADDRESS)
    await shop.deliver(order_id)
    assert (await shop.order_in(order_id, "FULFILLED"))["products"] == cut
    await shop.spent(token)
    assert [event.subject.split(".")[3] for event in await shop.events("orders")] == [
        "order_created",
        "order_modified",
        "order_modified",
    ]
    assert await shop.events("payment") == []
    assert await shop.dead_letters() == []


async def test_a_failed_delivery_cancels_the_payment(shop: Shop) -> None:
    order = await shop.create()
    await shop.pack(order["orderId"])
    await shop.deliver(order["orderId"], "fail")
    await shop.order_in(order["orderId"], "DELIVERY_FAILED")
    await shop.spent(order["paymentToken"])
    assert await shop.event("delivery", "delivery_failed", order["orderId"]) == {
        "orderId": order["orderId"],
        "address": ADDRESS,
    }
    assert await shop.events("payment") == []
    assert await shop.dead_letters() == []


async def test_an_empty_package_cancels_the_payment(shop: Shop) -> None:
    order = await shop.create()
    await shop.pack(order["orderId"], {"shirt": 0, "shoes": 0})
    await shop.order_in(order["orderId"], "PACKAGING_FAILED")
    await shop.spent(order["paymentToken"])
    assert await shop.event("warehouse", "packaging_failed", order["orderId"]) == {"orderId": order["orderId"]}
    assert await shop.dead_letters() == []


async def test_packing_less_lowers_the_total_and_the_payment(shop: Shop) -> None:
    order = await shop.create()
    await shop.pack(order["orderId"], {"shirt": 1, "shoes": 0})
    packaged = await shop.order_in(order["orderId"], "PACKAGED")
    assert packaged["products"] == [{**SHIRT, "quantity": 1}]
    assert packaged["total"] == 1500
    modified = await shop.event("orders", "order_modified", order["orderId"])
    assert modified["changed"] == ["status", "modifiedDate", "products", "total"]
    assert (modified["old"], modified["new"]) == (order, packaged)
    await shop.lowered(order["paymentToken"], 1500)
    await shop.deliver(order["orderId"])
    await shop.order_in(order["orderId"], "FULFILLED")
    await shop.spent(order["paymentToken"])


async def test_a_deleted_order_is_neither_packed_nor_paid(shop: Shop) -> None:
    order = await shop.create()
    await shop.request(order["orderId"])
    assert await shop.ask("orders.command.delete_order", {"orderId": order["orderId"]}) is None
    await shop.spent(order["paymentToken"])

    async def gone() -> bool:
        try:
            await shop.ask("warehouse.query.get_packaging_request", {"orderId": order["orderId"]})
        except Refused as refused:
            return (refused.code, refused.text) == (404, "Packaging request not found")
        return False

    await shop.system.until(gone)
    assert await shop.event("orders", "order_deleted", order["orderId"]) == order


async def test_an_invalid_order_is_answered_with_every_error(shop: Shop) -> None:
    request = {
        "products": [{**SHIRT, "price": 1}, {**SHOES, "productId": "hat"}],
        "address": {**ADDRESS, "country": "US"},
        "deliveryPrice": 1000,
        "paymentToken": "unknown",
    }
    assert await shop.ask("orders.command.create_order", {"userId": "ann", "order": request}) == {
        "success": False,
        "message": "Validation errors",
        "errors": [
            "Wrong delivery price: got 1000, expected 1500",
            "Wrong payment token",
            "Invalid value for 'price': want '500', got '1' in product 'shirt'. Product 'hat' not found",
        ],
    }
    assert await shop.events("orders") == []


async def test_the_same_command_id_creates_one_order(shop: Shop) -> None:
    token = await shop.preauth()
    request = {"products": LINES, "address": ADDRESS, "deliveryPrice": 1000, "paymentToken": token}
    replies = [
        await shop.ask("orders.command.create_order", {"userId": "ann", "order": request}, id="one") for _ in range(3)
    ]
    assert replies[0]["success"]
    assert replies[1] == replies[2] == replies[0]
    listed = await shop.ask("orders.query.list_orders", {"userId": "ann"})
    assert [order["orderId"] for order in listed["orders"]] == [replies[0]["order"]["orderId"]]


async def test_orders_of_a_user_are_listed_newest_first_by_page(shop: Shop) -> None:
    created = [(await shop.create(user="ann"))["orderId"] for _ in range(45)]
    await shop.create(user="bob")
    pages: list[Any] = [await shop.ask("orders.query.list_orders", {"userId": "ann"})]
    while (token := pages[-1].get("nextToken")) is not None:
        pages.append(await shop.ask("orders.query.list_orders", {"userId": "ann", "nextToken": token}))
    assert [len(page["orders"]) for page in pages] == [20, 20, 5]
    assert [order["orderId"] for page in pages for order in page["orders"]] == created[::-1]
    assert (await shop.ask("orders.query.list_orders", {"userId": "eve"})) == {"orders": []}


async def test_new_packaging_requests_and_deliveries_are_listed(shop: Shop) -> None:
    ids = [(await shop.create())["orderId"] for _ in range(3)]
    for order_id in ids:
        await shop.request(order_id)
    listed = await shop.ask("warehouse.query.list_new_packaging_requests")
    assert [request["orderId"] for request in listed["packagingRequests"]] == ids
    for order_id in ids:
        await shop.pack(order_id)
        await shop.found("delivery.query.get_delivery", order_id)
    assert await shop.ask("warehouse.query.list_new_packaging_requests") == {"packagingRequests": []}
    deliveries = (await shop.ask("delivery.query.list_new_deliveries"))["deliveries"]
    assert [delivery["orderId"] for delivery in deliveries] == ids


async def test_products_are_created_modified_listed_validated_and_deleted(shop: Shop) -> None:
    hat = {"productId": "hat", "name": "Hat", "package": PACKAGE, "price": 10, "category": "heads", "tags": ["felt"]}
    created = await shop.ask("products.command.create_product", hat)
    assert created == {
        **hat,
        "quantity": 1,
        "createdDate": created["createdDate"],
        "modifiedDate": created["createdDate"],
    }
    changed = await shop.ask("products.command.modify_product", {"productId": "hat", "price": 20})
    assert changed == {**created, "price": 20, "modifiedDate": changed["modifiedDate"]}
    assert await shop.ask("products.query.get_product", {"productId": "hat"}) == changed
    listed = await shop.ask("products.query.list_products")
    assert [product["productId"] for product in listed["products"]] == ["shirt", "shoes", "hat"]
    assert await shop.ask("products.query.list_products_by_category", {"category": "heads"}) == {"products": [changed]}
    valid = {"products": [{"productId": "hat", "name": "Hat", "package": PACKAGE, "price": 20}]}
    assert await shop.ask("products.query.validate_products", valid) == {
        "message": "All products are valid",
        "products": [],
    }
    cheap = {"products": [*valid["products"], {"productId": "hat", "name": "Hat", "package": PACKAGE, "price": 1}]}
    assert await shop.ask("products.query.validate_products", cheap) == {
        "message": "Invalid value for 'price': want '20', got '1' in product 'hat'",
        "products": valid["products"],
    }
    assert await shop.ask("products.command.delete_product", {"productId": "hat"}) is None
    invalid = await shop.ask("products.query.validate_products", valid)
    assert invalid == {"message": "Product 'hat' not found", "products": valid["products"]}
    names = ("product_created", "product_modified", "product_deleted")
    events = {name: await shop.event("products", name, "hat") for name in names}
    assert events["product_created"] == created
    assert events["product_modified"] == {"old": created, "new": changed, "changed": ["price", "modifiedDate"]}
    assert events["product_deleted"] == changed


@pytest.mark.parametrize(
    ("subject", "body", "code", "text"),
    [
        ("orders.query.get_order", {}, 400, "orderId"),
        ("orders.query.get_order", {"orderId": 1}, 400, "orderId"),
        ("orders.query.get_order", b"nonsense", 400, ""),
        ("orders.query.get_order", b"", 400, ""),
        ("orders.query.get_order", {"orderId": "none"}, 404, "Order not found"),
        ("orders.command.create_order", {"userId": "ann"}, 400, "order"),
        ("payment-3p.command.preauth", {"cardNumber": "1", "amount": 1}, 400, "cardNumber"),
        ("payment-3p.command.preauth", {"cardNumber": "1" * 16, "amount": 0}, 400, "amount"),
        ("delivery.command.start_delivery", {"orderId": "none"}, 404, "Delivery not found"),
        ("warehouse.query.get_packaging_request", {"orderId": "none"}, 404, "Packaging request not found"),
        ("products.query.list_products", {"nextToken": "nonsense"}, 400, "token"),
        ("products.command.create_product", {**SHIRT, "package": {**PACKAGE, "width": -1}}, 400, "package.width"),
        ("products.command.create_product", SHIRT, 409, "Product already exists"),
    ],
)
async def test_invalid_input_is_refused_with_its_field(
    shop: Shop, subject: str, body: Any, code: int, text: str
) -> None:
    with pytest.raises(Refused) as refused:
        await shop.ask(subject, body)
    assert refused.value.code == code
    assert text in refused.value.text


async def test_a_payment_succeeds_by_a_retry_if_the_provider_recovers(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTORLOOM_PAYMENT_3P_FAIL", "process_payment:2")
    async with open_shop(nats_server.url, namespace) as shop:
        order = await shop.create()
        await shop.pack(order["orderId"])
        await shop.deliver(order["orderId"])
        await shop.spent(order["paymentToken"])
        assert await shop.events("payment") == []
        assert await shop.dead_letters() == []


@pytest.mark.parametrize(("outcome", "operation"), [("complete", "process_payment"), ("fail", "cancel_payment")])
async def test_a_payment_raises_an_alert_if_the_provider_does_not_recover(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch, outcome: str, operation: str
) -> None:
    monkeypatch.setenv("ACTORLOOM_PAYMENT_3P_FAIL", operation)
    monkeypatch.setenv("ACTORLOOM_PAYMENT_3P_DELAY", "1")
    async with open_shop(nats_server.url, namespace) as shop:
        order = await shop.create()
        await shop.pack(order["orderId"])
        await shop.deliver(order["orderId"], outcome)
        assert await shop.event("payment", "payment_alert_raised", order["orderId"]) == {
            "orderId": order["orderId"],
            "operation": operation,
            "reason": f"ProviderUnavailable: {operation} is out of order, as configured",
        }
        assert await shop.good_for(order["paymentToken"], 5000)
        assert await shop.dead_letters() == []
