"""Customers of the real shop: plain JSON over NATS, each command sent again under its id until its outcome is known."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from runtime import PublishError
from runtime.nats.connection import Connection
from runtime.nats.errors import NoResponders
from runtime.wire import header_block
from runtime.wire.ids import new_id
from tests.actors.shop import ADDRESS, CARD, LINES, SHIRT, SHOES, Refused
from tests.chaos.fleet import until

PATIENCE = 45.0
"""Seconds without any progress after which a step of an order counts as lost."""
FOREIGN = 0.3
"""The share of ids that carry no time, as those of other people's programs."""
TOTAL = 5000
"""What the sample order costs with its delivery."""
_ASK_AGAIN = frozenset({408, 429, 503})
_UNREACHED = "Failure to contact"


class Lost(Exception):
    """A step of an order did not happen, or its outcome never became known."""


@dataclass
class Said:
    """One command, its id, and the reply that it must always get."""

    subject: str
    body: Any
    id: str
    answer: Any


@dataclass
class Purchase:
    """One order on its way, and all that its customer was told."""

    user: str
    order_id: str = ""
    token: str = ""
    said: list[Said] = field(default_factory=list)
    done: bool = False


class Customers:
    """`number` customers, each with one order after the other until `stop`; a problem ends the customer it happened to."""

    def __init__(self, connection: Connection, namespace: str, rng: random.Random, number: int) -> None:
        self.connection = connection
        self.namespace = namespace
        self.purchases: list[Purchase] = []
        self.lost: list[str] = []
        """Steps that did not happen."""
        self.odd: list[str] = []
        """Answers that are not in the contract, or that a command that was not repeated cannot get."""
        self.steps = 0
        self.unknown = 0
        """Attempts without an answer, or with one that says: not now."""
        self.again = 0
        """Orders that were answered with a service that could not be reached, and made anew."""
        self.stall = 0.0
        """The longest time without a step of any order, in seconds."""
        self._rng = rng
        self._number = number
        self._last = time.monotonic()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._tag = f"{rng.getrandbits(32):08x}"

    async def seed(self) -> None:
        """Fill the catalog; also waits until the shop is there."""
        for product in (SHIRT, SHOES):
            await self.tell(None, "products.command.create_product", product)

    def start(self) -> None:
        create = asyncio.get_running_loop().create_task
        self._last = time.monotonic()
        self._tasks = [create(self._shop(f"user-{n}", random.Random(self._rng.random()))) for n in range(self._number)]

    async def reached(self, steps: int) -> None:
        """Return when at least so many more steps of orders have been made. Raises `TimeoutError`."""
        wanted = self.steps + steps
        await until(lambda: self.steps >= wanted or self.ended, PATIENCE, f"{steps} more steps of orders")

    @property
    def ended(self) -> bool:
        """Whether no customer is left."""
        return all(task.done() for task in self._tasks)

    async def stop(self) -> None:
        """Begin no new orders; return when all that were begun are paid, or stuck."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def repeat(self) -> None:
        """Send every command once more under its id: each must get the reply that it got."""
        said = [said for purchase in self.purchases for said in purchase.said]
        bound = asyncio.Semaphore(16)

        async def once_more(one: Said) -> None:
            async with bound:
                try:
                    answer = await self.ask(one.subject, one.body, one.id)
                except Refused as refused:
                    answer = str(refused)
                if answer != one.answer:
                    self.odd.append(f"{one.subject} {one.id}: {one.answer}, then {answer}")

        await asyncio.gather(*map(once_more, said))

    async def ask(self, subject: str, body: Any, id: str = "") -> Any:
        """Return the JSON of the answer, asking until there is one. Raises `Refused` for other errors, `Lost`."""
        block = header_block.encode([("Idempotency-Key", id)]) if id else None
        payload = msgspec.json.encode(body)
        end = time.monotonic() + PATIENCE
        pause = 0.01
        while time.monotonic() < end:
            try:
                reply = await self.connection.request(
                    f"{self.namespace}.{subject}", payload, headers=block, timeout=1.5
                )
                answer = msgspec.json.decode(reply.payload) if reply.payload else None
                if header_block.get(reply.headers, header_block.SERVICE_ERROR_CODE) is None:
                    return answer
                error = answer["error"]
                if error["code"] not in _ASK_AGAIN:
                    raise Refused(error["code"], error["kind"], error["message"])
                self.unknown += 1
            except (NoResponders, TimeoutError, PublishError):
                self.unknown += 1
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.25)
        raise Lost(f"{subject} {id}: no outcome within {PATIENCE:.0f} s")

    async def tell(self, purchase: Purchase | None, subject: str, body: Any) -> Any:
        """Send a command of `purchase` until its outcome is known, and remember it."""
        command_id = f"{self._tag}-{self._rng.getrandbits(48):x}" if self._rng.random() < FOREIGN else new_id()
        answer = await self.ask(subject, body, command_id)
        if purchase is not None:
            purchase.said.append(Said(subject, body, command_id, answer))
        self._stepped()
        return answer

    def _stepped(self) -> None:
        now = time.monotonic()
        self.stall = max(self.stall, now - self._last)
        self._last = now
        self.steps += 1

    async def _shop(self, user: str, rng: random.Random) -> None:
        while not self._stopping:
            purchase = Purchase(user)
            self.purchases.append(purchase)
            try:
                await self._through(purchase)
            except Refused as refused:
                self.odd.append(f"{purchase.order_id} after {purchase.said[-1:]}: {refused}")
                return
            except Lost as lost:
                self.lost.append(f"{purchase.order_id}: {lost}")
                return
            await asyncio.sleep(rng.uniform(0, 0.05))

    async def _through(self, purchase: Purchase) -> None:
        """Take one order from its price to delivered and paid."""
        pricing = await self.ask("delivery.query.get_delivery_pricing", {"products": LINES, "address": ADDRESS})
        card = {"cardNumber": CARD, "amount": TOTAL}
        purchase.token = (await self.tell(purchase, "payment-3p.command.preauth", card))["paymentToken"]
        await self._create(purchase, pricing["pricing"])
        named = {"orderId": purchase.order_id}
        await self._until("warehouse.query.get_packaging_request", named, lambda _: True)
        await self.tell(purchase, "warehouse.command.start_packaging", named)
        await self.tell(purchase, "warehouse.command.complete_packaging", named)
        await self._until("delivery.query.get_delivery", named, lambda _: True)
        await self.tell(purchase, "delivery.command.start_delivery", named)
        await self.tell(purchase, "delivery.command.complete_delivery", named)
        await self._until("orders.query.get_order", named, lambda order: order["status"] == "FULFILLED")
        paid = {"paymentToken": purchase.token, "amount": 0}
        await self._until("payment-3p.query.check", paid, lambda reply: not reply["ok"])
        purchase.done = True

    async def _create(self, purchase: Purchase, price: int) -> None:
        """Order; where a service could not be reached the answer is a known one, no order, and a new command is sent."""
        request = {"products": LINES, "address": ADDRESS, "deliveryPrice": price, "paymentToken": purchase.token}
        body = {"userId": purchase.user, "order": request}
        while True:
            answer = await self.tell(purchase, "orders.command.create_order", body)
            if answer["success"]:
                purchase.order_id = answer["order"]["orderId"]
                return
            if not all(error.startswith(_UNREACHED) for error in answer["errors"]):
                raise Refused(409, "OrderCreation", "; ".join(answer["errors"]))
            self.again += 1
            await asyncio.sleep(0.05)

    async def _until(self, subject: str, body: Any, reached: Callable[[Any], object]) -> None:
        """Ask until the answer is there and as it should be: events take their own time."""

        async def answer() -> bool:
            try:
                return bool(reached(await self.ask(subject, body)))
            except Refused as refused:
                if refused.code != 404:
                    raise
                return False

        await _true(answer, f"{subject} {body}")
        self._stepped()


async def _true(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not await condition():
        if time.monotonic() > end:
            raise Lost(f"{what}: not as it should be within {PATIENCE:.0f} s")
        await asyncio.sleep(0.02)
