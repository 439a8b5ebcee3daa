"""The whole shop on a real server, called with plain JSON over NATS, as a customer calls it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from actorloom_shop.delivery.actor import Deliveries
from actorloom_shop.orders.actor import Orders
from actorloom_shop.payment.actor import Payments
from actorloom_shop.payment_3p.actor import PaymentProvider
from actorloom_shop.products.actor import Products
from actorloom_shop.warehouse.actor import Warehouse
from runtime import Options, RetryPolicy
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.wire import header_block
from tests.support.probe import Probe, running

SERVICES = (Products, Deliveries, Orders, Warehouse, Payments, PaymentProvider)
QUICK = Options(retry=RetryPolicy(attempts=4, first=0.01, longest=0.05))

PACKAGE = {"width": 100, "length": 200, "height": 300, "weight": 1000}
SHIRT = {"productId": "shirt", "name": "Shirt", "package": PACKAGE, "price": 500}
SHOES = {"productId": "shoes", "name": "Shoes", "package": PACKAGE, "price": 3000}
LINES = [{**SHIRT, "quantity": 2, "tags": ["summer"]}, {**SHOES, "quantity": 1}]
ADDRESS = {"name": "Ann", "streetAddress": "Street 1", "city": "Paris", "country": "FR", "phoneNumber": "+33 1"}
CARD = "1234567890123456"


class Refused(Exception):
    """An error reply: code, kind and text."""

    def __init__(self, code: int, kind: str, text: str) -> None:
        super().__init__(f"{code} {kind}: {text}")
        self.code = code
        self.kind = kind
        self.text = text


class Shop:
    """The running shop. Every request carries `trace` as its trace context."""

    def __init__(self, system: Probe, namespace: str) -> None:
        self.system = system
        self.trace: str | None = None
        self.namespace = namespace
        self.jetstream = JetStream(system.connection)

    async def ask(self, subject: str, body: Any = None, *, id: str | None = None) -> Any:
        """Send JSON to a subject such as ``orders.query.get_order`` and return the JSON of the reply. Raises `Refused`."""
        payload = body if isinstance(body, bytes) else msgspec.json.encode(body if body is not None else {})
        named = {"traceparent": self.trace, "Idempotency-Key": id}
        pairs = [(name, value) for name, value in named.items() if value is not None]
        reply = await self.system.connection.request(
            f"{self.namespace}.{subject}", payload, headers=header_block.encode(pairs) if pairs else None, timeout=10
        )
        answer = msgspec.json.decode(reply.payload) if reply.payload else None
        if header_block.get(reply.headers, header_block.SERVICE_ERROR_CODE) is not None:
            error = answer["error"]
            raise Refused(error["code"], error["kind"], error["message"])
        return answer

    async def seed(self) -> None:
        """Fill the catalog."""
        for product in (SHIRT, SHOES):
            await self.ask("products.command.create_product", product)

    async def preauth(self, amount: int = 5000) -> str:
        """Authorize `amount` and return the payment token."""
        reply = await self.ask("payment-3p.command.preauth", {"cardNumber": CARD, "amount": amount})
        return reply["paymentToken"]

    async def create(self, *, total: int = 5000, user: str = "ann") -> Any:
        """Order the two sample products with `total` authorized, and return the order."""
        request = {
            "products": LINES,
            "address": ADDRESS,
            "deliveryPrice": 1000,
            "paymentToken": await self.preauth(total),
        }
        reply = await self.ask("orders.command.create_order", {"userId": user, "order": request})
        assert reply["success"], reply
        return reply["order"]

    async def pack(self, order_id: str, quantities: Mapping[str, int] | None = None) -> None:
        """Pack an order as soon as the warehouse knows it, with other quantities if given."""
        await self.request(order_id)
        await self.ask("warehouse.command.start_packaging", {"orderId": order_id})
        for product_id, quantity in (quantities or {}).items():
            body = {"orderId": order_id, "productId": product_id, "quantity": quantity}
            await self.ask("warehouse.command.update_packaging_product", body)
        await self.ask("warehouse.command.complete_packaging", {"orderId": order_id})

    async def deliver(self, order_id: str, outcome: str = "complete") -> None:
        """End a delivery with `how` (``"complete"`` or ``"fail"``) as soon as it is known."""
        await self.found("delivery.query.get_delivery", order_id)
        await self.ask("delivery.command.start_delivery", {"orderId": order_id})
        await self.ask(f"delivery.command.{outcome}_delivery", {"orderId": order_id})

    async def request(self, order_id: str) -> Any:
        """Return the packaging request of an order as soon as it exists."""
        return await self.found("warehouse.query.get_packaging_request", order_id)

    async def found(self, subject: str, order_id: str) -> Any:
        """Return the reply to a query about an order as soon as it is not 404."""

        async def answer() -> Any:
            try:
                return await self.ask(subject, {"orderId": order_id})
            except Refused as refused:
                if refused.code != 404:
                    raise
                return None

        return await self.system.until(answer)

    async def order(self, order_id: str) -> Any:
        """Return the current order."""
        return await self.ask("orders.query.get_order", {"orderId": order_id})

    async def order_in(self, order_id: str, status: str) -> Any:
        """Return the order as soon as it has `status`."""

        async def reached() -> Any:
            order = await self.order(order_id)
            return order if order["status"] == status else None

        return await self.system.until(reached)

    async def good_for(self, token: str, amount: int) -> bool:
        """Return whether the provider has the amount authorized."""
        return (await self.ask("payment-3p.query.check", {"paymentToken": token, "amount": amount}))["ok"]

    async def spent(self, token: str) -> None:
        """Return as soon as a token is spent."""

        async def gone() -> bool:
            return not await self.good_for(token, 0)

        await self.system.until(gone)

    async def lowered(self, token: str, amount: int) -> None:
        """Return as soon as a token authorizes `amount` and no more."""

        async def low() -> bool:
            return not await self.good_for(token, amount + 1)

        await self.system.until(low)
        assert await self.good_for(token, amount)

    async def events(self, service: str, name: str = "*") -> list[StoredMessage]:
        """Return the events that a service has emitted so far."""
        stream, subject = f"{self.namespace}-{service}-events", f"{self.namespace}.{service}.event.{name}.*.*"
        return [stored async for stored in self.jetstream.read(stream, subject)]

    async def event(self, service: str, name: str, order_id: str) -> Any:
        """Return the body of the only event of that name and order, as soon as it is stored."""

        async def bodies() -> list[Any]:
            found = [stored for stored in await self.events(service, name) if stored.subject.endswith(f".{order_id}")]
            return [msgspec.json.decode(stored.payload) for stored in found]

        [body] = await self.system.until(bodies)
        return body

    async def dead_letters(self) -> list[StoredMessage]:
        """Return all dead letters of all services."""
        return [
            stored
            for service in SERVICES
            async for stored in self.jetstream.read(
                f"{self.namespace}-{service.name}-dead", f"{self.namespace}.{service.name}.dead.*"
            )
        ]


@asynccontextmanager
async def open_shop(url: str, namespace: str) -> AsyncIterator[Shop]:
    """Run the six services in a namespace of their own, with quick retries and a filled catalog."""
    options = {service.name: QUICK for service in SERVICES}
    async with running(*SERVICES, url=url, namespace=namespace, options=options) as system:
        shop = Shop(system, namespace)
        await shop.seed()
        yield shop
