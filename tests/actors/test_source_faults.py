"""Nine faults of the shop that this one is modeled on: each test shows in the real flow that one is absent."""

import re
from collections import Counter
from typing import Any

import msgspec
from opentelemetry.trace import SpanKind

from runtime.telemetry import SpanRecord
from runtime.wire import header_block
from tests.actors.shop import ADDRESS, LINES, SERVICES, SHIRT, SHOES, Shop


async def test_1_packaging_fails_if_nothing_is_packed_and_lists_only_products(shop: Shop) -> None:
    order = await shop.create()
    products = (await shop.request(order["orderId"]))["products"]
    assert products == [{"productId": "shirt", "quantity": 2}, {"productId": "shoes", "quantity": 1}]
    await shop.pack(order["orderId"], {"shirt": 0, "shoes": 0})
    assert await shop.event("warehouse", "packaging_failed", order["orderId"]) == {"orderId": order["orderId"]}
    assert await shop.events("warehouse", "package_created") == []
    await shop.order_in(order["orderId"], "PACKAGING_FAILED")


async def test_2_packing_keeps_full_products_and_the_total_reaches_the_payment(shop: Shop) -> None:
    order = await shop.create()
    await shop.pack(order["orderId"], {"shirt": 1})
    packed = await shop.event("warehouse", "package_created", order["orderId"])
    assert packed["products"] == [{"productId": "shirt", "quantity": 1}, {"productId": "shoes", "quantity": 1}]
    packaged = await shop.order_in(order["orderId"], "PACKAGED")
    assert packaged["products"] == [{**SHIRT, "quantity": 1}, {**SHOES, "quantity": 1}]
    assert packaged["total"] == 4500
    await shop.lowered(order["paymentToken"], 4500)


async def test_3_the_reaction_to_a_failure_uses_only_fields_of_its_event(shop: Shop) -> None:
    order = await shop.create()
    await shop.pack(order["orderId"])
    await shop.deliver(order["orderId"], "fail")
    await shop.spent(order["paymentToken"])
    # The reaction was handled once: nothing was retried or dead-lettered.
    payment = shop.system.consumers("payment")

    async def handled() -> bool:
        return sum(reactions.handled for reactions in payment.reactions) == 2  # OrderCreated and DeliveryFailed

    await shop.system.until(handled)
    assert [reactions.dead_lettered for reactions in payment.reactions] == [0] * len(payment.reactions)
    failures = [span for span in shop.system.tracing.finished() if span.service == "payment" and span.status == "ERROR"]
    assert failures == []


async def test_4_a_refused_amount_raises_an_alert(shop: Shop) -> None:
    order = await shop.create()
    await shop.pack(order["orderId"], {"shirt": 3})
    assert await shop.event("payment", "payment_alert_raised", order["orderId"]) == {
        "orderId": order["orderId"],
        "operation": "update_amount",
        "reason": "refused to change the amount from 5000 to 5500",
    }
    assert await shop.good_for(order["paymentToken"], 5000)
    assert not await shop.good_for(order["paymentToken"], 5001)


async def test_5_a_repeated_process_payment_gets_the_same_reply(shop: Shop) -> None:
    for operation in ("process_payment", "cancel_payment"):
        token = await shop.preauth()
        body = {"paymentToken": token}
        subject = f"payment-3p.command.{operation}"
        answers = [await shop.ask(subject, body, id=f"{operation}-1") for _ in range(3)]
        assert answers == [{"ok": True}] * 3
        assert await shop.ask(subject, body, id=f"{operation}-2") == {"ok": False}


async def test_6_a_late_package_does_not_set_back_a_delivered_order(shop: Shop) -> None:
    order = await shop.create()
    order_id = order["orderId"]
    await publish(shop, "delivery", "DeliveryCompleted", order_id, {"orderId": order_id, "address": ADDRESS})
    await shop.order_in(order_id, "FULFILLED")
    products = [{"productId": "shirt", "quantity": 1}]
    await publish(shop, "warehouse", "PackageCreated", order_id, {"orderId": order_id, "products": products})
    await publish(shop, "warehouse", "PackagingFailed", order_id, {"orderId": order_id})

    async def modified() -> Any:
        now = await shop.order(order_id)
        return now if now["total"] == 1500 else None

    late = await shop.system.until(modified)
    assert late["status"] == "FULFILLED"
    assert late["products"] == [{**SHIRT, "quantity": 1}]


async def publish(shop: Shop, service: str, kind: str, key: str, body: Any) -> None:
    """Publish an event as a program in another language does."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower()
    attributes = {"specversion": "1.0", "id": f"{kind}-{key}", "source": f"/{service}", "type": f"{service}.{kind}"}
    pairs = [(f"ce-{attribute}", value) for attribute, value in attributes.items()]
    subject = f"{shop.namespace}.{service}.event.{name}.{key}"
    await shop.jetstream.publish(subject, msgspec.json.encode(body), headers=header_block.encode(pairs))


FIELDS = {
    "order_created": "orderId userId status createdDate modifiedDate products address deliveryPrice paymentToken total",
    "order_modified": "old new changed",
    "package_created": "orderId products",
    "packaging_failed": "orderId",
    "delivery_completed": "orderId address",
    "delivery_failed": "orderId address",
    "product_created": "productId name package price quantity createdDate modifiedDate",
    "payment_alert_raised": "orderId operation reason",
}


async def test_7_sources_and_field_names_are_as_documented(shop: Shop) -> None:
    completed, failed, unpacked = [(await shop.create())["orderId"] for _ in range(3)]
    await shop.pack(completed)
    await shop.deliver(completed)
    await shop.pack(failed, {"shirt": 3})
    await shop.deliver(failed, "fail")
    await shop.pack(unpacked, {"shirt": 0, "shoes": 0})
    await shop.order_in(completed, "FULFILLED")
    await shop.order_in(failed, "DELIVERY_FAILED")
    await shop.order_in(unpacked, "PACKAGING_FAILED")
    await shop.event("payment", "payment_alert_raised", failed)
    seen: set[str] = set()
    for service in ("products", "orders", "warehouse", "delivery", "payment"):
        for stored in await shop.events(service):
            _, source, _, name, _, key = stored.subject.split(".")
            headers = header_block.parse(stored.headers or b"")
            attributes = {
                header.lower(): value for header, value in headers.items() if header.lower().startswith("ce-")
            }
            assert source == service
            assert attributes["ce-source"] == f"/{service}"
            assert attributes["ce-type"] == service + "." + name.title().replace("_", "")
            assert attributes["ce-subject"] == key
            body = msgspec.json.decode(stored.payload)
            assert list(body) == FIELDS[name].split(), name
            assert key in (body.get("orderId"), body.get("productId"), body.get("new", {}).get("orderId"))
            seen.add(name)
    assert seen == set(FIELDS)


async def test_8_pricing_counts_quantity_and_knows_poland(shop: Shop) -> None:
    async def price(quantity: int, country: str) -> int:
        body = {"products": [{**SHIRT, "quantity": quantity}], "address": {**ADDRESS, "country": country}}
        return (await shop.ask("delivery.query.get_delivery_pricing", body))["pricing"]

    assert await price(12, "PL") == 1000
    assert await price(13, "PL") == 2000
    assert await price(1, "PO") == 2500


async def test_9_an_order_is_one_trace_over_every_hop(shop: Shop) -> None:
    trace_id, root = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    shop.trace = f"00-{trace_id}-{root}-01"
    await shop.ask("delivery.query.get_delivery_pricing", {"products": LINES, "address": ADDRESS})
    order = await shop.create()
    await shop.pack(order["orderId"])
    await shop.deliver(order["orderId"])
    await shop.order_in(order["orderId"], "FULFILLED")
    await shop.spent(order["paymentToken"])

    def complete() -> list[SpanRecord] | None:
        """Return the spans once `orders` and `payment` have reacted to the last event of the order."""
        spans = shop.system.trace_of(trace_id)
        processed = Counter(span.name for span in spans if span.kind is SpanKind.CONSUMER)
        last = next((name for name in processed if "delivery_completed" in name), "")
        return spans if processed[last] == 2 else None

    spans = await shop.system.until(complete)
    by_id = {span.span_id: span for span in spans}
    assert {span.service for span in spans} == {service.name for service in SERVICES}
    assert [span.name for span in spans if span.parent_id not in by_id and span.parent_id != root] == []
    hops = Counter[tuple[str, str]]()
    for span in spans:
        if span.kind is SpanKind.CONSUMER:
            producer = by_id[span.parent_id or ""]
            assert producer.kind is SpanKind.PRODUCER
            assert (trace_id, producer.span_id) in span.links
            hops[producer.service, span.service] += 1
    assert hops == {
        ("orders", "payment"): 1,
        ("orders", "warehouse"): 1,
        ("warehouse", "orders"): 1,
        ("warehouse", "delivery"): 1,
        ("delivery", "orders"): 1,
        ("delivery", "payment"): 1,
    }
