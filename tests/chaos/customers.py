"""Customers of the shop: they send plain JSON over NATS, and retry each command under its id until its outcome is known."""

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
"""Seconds without an outcome after which a step of an order counts as lost."""

FOREIGN_SHARE = 0.3
"""Share of ids that contain no time, like ids that other programs choose."""

TOTAL = 5000
"""Price of the sample order with its delivery."""

_RETRYABLE = frozenset({408, 429, 503})
"""Codes of errors after which a request is sent again."""

_UNREACHABLE = "Failure to contact"
"""Beginning of the error text for a service that could not be reached."""


class Lost(Exception):
    """A step of an order did not happen, or its outcome never became known."""


@dataclass
class SentCommand:
    """A command, its id, and the reply that the id must always get."""

    subject: str
    body: Any
    id: str
    answer: Any


@dataclass
class Purchase:
    """One order, and the commands that its customer has sent."""

    user: str
    order_id: str = ""
    token: str = ""
    commands: list[SentCommand] = field(default_factory=list)
    done: bool = False


class Customers:
    """Customers who place one order after another until `stop`. A customer whose order fails places no more.

    Args:
        connection: Sends the requests.
        namespace: Namespace of the shop.
        rng: Chooses ids and pauses.
        number: Number of customers.
    """

    def __init__(self, connection: Connection, namespace: str, rng: random.Random, number: int) -> None:
        self.connection = connection
        self.namespace = namespace
        self.purchases: list[Purchase] = []
        self.lost: list[str] = []
        """Steps of orders that did not happen."""
        self.unexpected: list[str] = []
        """Replies outside the contract, and repetitions with a different reply."""
        self.steps = 0
        """Steps of orders that are done."""
        self.unknown = 0
        """Attempts that got no reply, or a reply that asks for a retry."""
        self.reordered = 0
        """Orders that were rejected because a service could not be reached, and placed again."""
        self.stall = 0.0
        """Longest time without a step of any order, in seconds."""
        self._rng = rng
        self._number = number
        self._last = time.monotonic()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._tag = f"{rng.getrandbits(32):08x}"

    async def seed(self) -> None:
        """Create the products. This waits until the shop serves."""
        for product in (SHIRT, SHOES):
            await self.send(None, "products.command.create_product", product)

    def start(self) -> None:
        create = asyncio.get_running_loop().create_task
        self._last = time.monotonic()
        self._tasks = [
            create(self._place_orders(f"user-{n}", random.Random(self._rng.random()))) for n in range(self._number)
        ]

    async def wait_for_more(self, steps: int) -> None:
        """Return once at least `steps` more steps of orders are done, or no customer is left.

        Raises:
            TimeoutError: They are not done within `PATIENCE` seconds.
        """
        wanted = self.steps + steps
        await until(lambda: self.steps >= wanted or self.ended, PATIENCE, f"{steps} more steps of orders")

    @property
    def ended(self) -> bool:
        """True if no customer is left."""
        return all(task.done() for task in self._tasks)

    async def stop(self) -> None:
        """Place no new orders; return once each order is paid or lost."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def repeat(self) -> None:
        """Send every command again under its id, and record the replies that differ from the first one."""
        commands = [command for purchase in self.purchases for command in purchase.commands]
        limit = asyncio.Semaphore(16)

        async def send_again(command: SentCommand) -> None:
            async with limit:
                try:
                    answer = await self.request(command.subject, command.body, command.id)
                except Refused as refused:
                    answer = str(refused)
                if answer != command.answer:
                    self.unexpected.append(f"{command.subject} {command.id}: {command.answer}, then {answer}")

        await asyncio.gather(*map(send_again, commands))

    async def request(self, subject: str, body: Any, id: str = "") -> Any:
        """Send a request until its outcome is known, and return the JSON of the reply.

        Raises:
            Refused: The reply is an error that a retry does not change.
            Lost: There was no outcome within `PATIENCE` seconds.
        """
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
                if error["code"] not in _RETRYABLE:
                    raise Refused(error["code"], error["kind"], error["message"])
                self.unknown += 1
            except (NoResponders, TimeoutError, PublishError):
                self.unknown += 1
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.25)
        raise Lost(f"{subject} {id}: no outcome within {PATIENCE:.0f} s")

    async def send(self, purchase: Purchase | None, subject: str, body: Any) -> Any:
        """Send a command until its outcome is known, and add it to `purchase`."""
        command_id = f"{self._tag}-{self._rng.getrandbits(48):x}" if self._rng.random() < FOREIGN_SHARE else new_id()
        answer = await self.request(subject, body, command_id)
        if purchase is not None:
            purchase.commands.append(SentCommand(subject, body, command_id, answer))
        self._count_step()
        return answer

    def _count_step(self) -> None:
        now = time.monotonic()
        self.stall = max(self.stall, now - self._last)
        self._last = now
        self.steps += 1

    async def _place_orders(self, user: str, rng: random.Random) -> None:
        while not self._stopping:
            purchase = Purchase(user)
            self.purchases.append(purchase)
            try:
                await self._complete(purchase)
            except Refused as refused:
                self.unexpected.append(f"{purchase.order_id} after {purchase.commands[-1:]}: {refused}")
                return
            except Lost as lost:
                self.lost.append(f"{purchase.order_id}: {lost}")
                return
            await asyncio.sleep(rng.uniform(0, 0.05))

    async def _complete(self, purchase: Purchase) -> None:
        """Complete one order, from its price to delivery and payment."""
        pricing = await self.request("delivery.query.get_delivery_pricing", {"products": LINES, "address": ADDRESS})
        card = {"cardNumber": CARD, "amount": TOTAL}
        purchase.token = (await self.send(purchase, "payment-3p.command.preauth", card))["paymentToken"]
        await self._place_order(purchase, pricing["pricing"])
        order = {"orderId": purchase.order_id}
        await self._query_until("warehouse.query.get_packaging_request", order, lambda _: True)
        await self.send(purchase, "warehouse.command.start_packaging", order)
        await self.send(purchase, "warehouse.command.complete_packaging", order)
        await self._query_until("delivery.query.get_delivery", order, lambda _: True)
        await self.send(purchase, "delivery.command.start_delivery", order)
        await self.send(purchase, "delivery.command.complete_delivery", order)
        await self._query_until("orders.query.get_order", order, lambda reply: reply["status"] == "FULFILLED")
        payment = {"paymentToken": purchase.token, "amount": 0}
        await self._query_until("payment-3p.query.check", payment, lambda reply: not reply["ok"])
        purchase.done = True

    async def _place_order(self, purchase: Purchase, price: int) -> None:
        """Place the order. If a service could not be reached, no order exists, and a new command is sent."""
        request = {"products": LINES, "address": ADDRESS, "deliveryPrice": price, "paymentToken": purchase.token}
        body = {"userId": purchase.user, "order": request}
        while True:
            answer = await self.send(purchase, "orders.command.create_order", body)
            if answer["success"]:
                purchase.order_id = answer["order"]["orderId"]
                return
            if not all(error.startswith(_UNREACHABLE) for error in answer["errors"]):
                raise Refused(409, "OrderCreation", "; ".join(answer["errors"]))
            self.reordered += 1
            await asyncio.sleep(0.05)

    async def _query_until(self, subject: str, body: Any, wait_for_more: Callable[[Any], object]) -> None:
        """Query until `reached` accepts the reply. Events arrive some time after the command that caused them."""

        async def answer() -> bool:
            try:
                return bool(wait_for_more(await self.request(subject, body)))
            except Refused as refused:
                if refused.code != 404:
                    raise
                return False

        await _wait_until(answer, f"{subject} {body}")
        self._count_step()


async def _wait_until(condition: Callable[[], Awaitable[bool]], goal: str) -> None:
    end = time.monotonic() + PATIENCE
    while not await condition():
        if time.monotonic() > end:
            raise Lost(f"{goal}: not within {PATIENCE:.0f} s")
        await asyncio.sleep(0.02)
