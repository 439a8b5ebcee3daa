"""The real shop, killed in the middle of its orders: each is packed, delivered and paid once, and nothing is left over."""

import asyncio
import signal
import time
from collections import Counter as Tally
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec

from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.storage.record import Record, decode_record
from runtime.wire import header_block
from runtime.wire.subjects import Names
from tests.chaos.cell import Result, Setting, measured
from tests.chaos.customers import Customers, Purchase
from tests.chaos.faults import ONCE, POINTS
from tests.chaos.fleet import Fleet, Program, Worker, until
from tests.chaos.servers import Servers

NAMESPACE = "shop"
SERVICES = ("products", "delivery", "orders", "warehouse", "payment", "payment-3p")
ACTORS = (
    "actorloom_shop.products.actor:Products", "actorloom_shop.delivery.actor:Deliveries", "actorloom_shop.orders.actor:Orders",
    "actorloom_shop.warehouse.actor:Warehouse", "actorloom_shop.payment.actor:Payments", "actorloom_shop.payment_3p.actor:PaymentProvider",
)  # fmt: skip
EFFECTS = {
    "orders": ("FULFILLED", "order_created"),
    "warehouse": ("COMPLETED", "package_created"),
    "delivery": ("COMPLETED", "delivery_completed"),
    "payment": ("PROCESSED", None),
}
"""By service: the status in which each order ends there, and the event that it has there exactly once."""
Faults = Callable[[Customers, Worker, Servers], Awaitable[None]]
SETTLE = 15.0
"""Seconds within which what reacts to the last step must have happened too."""


async def shop(setting: Setting) -> Result:
    """The whole shop and the server, killed in the middle of orders: every order fulfilled and charged once."""
    rng = setting.rng("shop")
    killed = [0, 0]

    async def kill(customers: Customers, worker: Worker, servers: Servers) -> None:
        killed[:] = await _kill(customers, worker, servers, rng, setting.much(60, 3))

    result = await _run(setting, "shop", ["-m", "runtime", "run", "actorloom_shop"], kill)
    result.faults = f"{killed[0]} kill -9 of the shop, {killed[1]} of the server"
    result.require(all(killed), "no kills of each kind")
    return result


async def shop_steps(setting: Setting) -> Result:
    """The whole shop killed at every step of its turns, in the middle of orders: every order fulfilled and charged once."""
    rng = setting.rng("shop-steps")
    points = [point for point in POINTS if not point.startswith("dedup")]  # an order handles too few messages
    kills = [f"{p}:{1 if p in ONCE else rng.randint(1, 60)}" for p in points * setting.much(3, 1)]
    rng.shuffle(kills)

    async def wait(customers: Customers, worker: Worker, servers: Servers) -> None:
        await until(lambda: len(worker.deaths) >= len(kills) or customers.ended, 10.0 * len(kills), "the armed kills")
        await customers.reached(20)

    result = await _run(setting, "shop-steps", ["-m", "tests.chaos.process", *ACTORS], wait, kills)
    result.faults = f"{len(kills)} kill -9 at {len(points)} points of the turn"
    return result


async def _run(setting: Setting, name: str, program: list[str], faults: Faults, kills: Sequence[str] = ()) -> Result:
    """Let customers order while the `faults` go on, and compare."""
    result = Result(name, setting.seed)
    number = setting.much(12, 4)
    async with (
        measured(result),
        Servers(setting.directory) as servers,
        _connected(servers) as connection,
        Fleet(setting.directory) as fleet,
    ):
        arguments = [*program, "--nats", servers.url, "--namespace", NAMESPACE, "--lease-ttl", "1"]
        worker = fleet.start(Program(name, arguments, list(kills)))
        customers = Customers(connection, NAMESPACE, setting.rng("customers"), number)
        await customers.seed()
        customers.start()
        await faults(customers, worker, servers)
        await customers.stop()
        result.require(set(worker.deaths) <= {-signal.SIGKILL}, f"lives ended by themselves: {worker.deaths}")
        await customers.repeat()
        await _audit(result, connection, customers)
        result.problems += [f"a stack trace in the log: {line}" for line in fleet.complaints()[:5]]
    result.stall = customers.stall
    result.load = f"{number} customers, {len(customers.purchases)} orders, {customers.steps} steps"
    result.figures["attempts without an outcome"] = customers.unknown
    result.figures["orders sent anew, a service was not there"] = customers.again
    return result


@asynccontextmanager
async def _connected(servers: Servers) -> AsyncIterator[Connection]:
    async with await Connection.connect(ConnectionOptions(url=servers.url, ping_interval=1.0), name="customers") as it:
        yield it


async def _kill(customers: Customers, worker: Worker, servers: Servers, rng: Random, times: int) -> tuple[int, int]:
    """Kill the shop, the server or both `times` times, after a random number of steps each; return how many of each."""
    plan = ["shop", "server", "both", *rng.choices(["shop", "server", "both"], [6, 1, 1], k=max(times - 3, 0))]
    rng.shuffle(plan)
    shops = nodes = 0
    for what in plan[:times]:
        await customers.reached(rng.randint(1, 40))
        await asyncio.sleep(rng.uniform(0, 0.05))
        if what != "server":
            shops += worker.kill()
        if what != "shop":
            await servers.restart(servers.nodes[0])
            nodes += 1
    await customers.reached(20)
    return shops, nodes


async def _audit(result: Result, connection: Connection, customers: Customers) -> None:
    """Compare what the customers were told with what is stored, when it has settled."""
    jetstream = JetStream(connection, timeout=3.0)
    end = time.monotonic() + SETTLE
    while True:
        found = _Findings()
        await found.compare(jetstream, customers.purchases)
        if not (found.lost or found.twice) or time.monotonic() > end:
            break
        await asyncio.sleep(0.1)
    result.lost = len(customers.lost) + len(found.lost)
    result.twice = len(found.twice)
    result.figures["orders fulfilled and charged once"] = sum(purchase.done for purchase in customers.purchases)
    for kind, lines in (
        ("lost", customers.lost), ("lost", found.lost), ("twice", found.twice), ("odd", customers.odd)
    ):  # fmt: skip
        result.problems += [f"{kind}: {line}" for line in lines[:8]]


class _Findings:
    """One comparison of all orders with the streams."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.twice: list[str] = []

    async def compare(self, jetstream: JetStream, purchases: list[Purchase]) -> None:
        """Note every difference."""
        bought = {purchase.order_id: purchase for purchase in purchases if purchase.order_id}
        statuses: Tally[tuple[str, str]] = Tally()
        events: Tally[tuple[str, str, str]] = Tally()
        for service in SERVICES:
            await self._events(jetstream, service, events, statuses)
            if service in EFFECTS:
                await self._records(jetstream, service, bought)
        await self._payments(jetstream, {purchase.token for purchase in purchases if purchase.token}, bought)
        for service, (_, name) in EFFECTS.items():
            if name is not None:
                for order_id in bought:
                    self._count(f"{service} {name} of {order_id}", events[service, name, order_id], 1)
        for order_id in bought:
            self._count(f"{order_id} becomes FULFILLED", statuses[order_id, "FULFILLED"], 1)
            self._count(f"{order_id} becomes PACKAGED", statuses[order_id, "PACKAGED"], 1, least=0)
        known = {"order_created", "order_modified", "package_created", "delivery_completed", "product_created"}
        for (service, name, key), number in events.items():
            if name not in known or (service != "products" and key not in bought):
                self.twice.append(f"{number} {service} {name} of {key}, which nobody asked for")

    def _count(self, what: str, found: int, right: int, *, least: int | None = None) -> None:
        if found < (right if least is None else least):
            self.lost.append(f"{what}: {found} times")
        elif found > right:
            self.twice.append(f"{what}: {found} times")

    async def _events(
        self, jetstream: JetStream, service: str, events: Tally[tuple[str, str, str]], statuses: Tally[tuple[str, str]]
    ) -> None:
        """Count a service's events by name and key, the statuses that orders came to, ids seen twice, dead letters."""
        names = Names(service, NAMESPACE)
        ids: Tally[str] = Tally()
        if service != "payment-3p":  # emits nothing, and has no such stream
            async for stored in jetstream.read(names.events_stream, names.event("*", "*")):
                ids[header_block.get(stored.headers, b"ce-id") or ""] += 1
                _, _, _, name, key = stored.subject.split(".")
                events[service, name, key] += 1
                if name == "order_modified":
                    body: Any = msgspec.json.decode(stored.payload)
                    statuses[key, body["new"]["status"]] += "status" in body["changed"]
        self.twice += [
            f"{service}: {number} events with the id {event_id}" for event_id, number in ids.items() if number > 1
        ]
        async for stored in jetstream.read(names.dead_stream, names.dead("*")):
            self.lost.append(f"a dead letter: {stored.subject}: {stored.headers!r}")

    async def _records(self, jetstream: JetStream, service: str, bought: dict[str, Purchase]) -> None:
        """Each order has its status there, and there are no others."""
        records = await _newest(jetstream, service)
        for order_id in bought:
            record = records.pop(order_id, None)
            state: Any = None if record is None else msgspec.json.decode(record.state)
            if state is None or state["status"] != EFFECTS[service][0]:
                self.lost.append(f"{service}: {order_id} ends as {state}")
        for order_id, record in records.items():
            if bytes(record.state) != b"null":  # an order that was answered with errors leaves its id, and no state
                self.twice.append(f"{service}: {order_id}, which nobody ordered: {bytes(record.state)[:200]!r}")

    async def _payments(self, jetstream: JetStream, tokens: set[str], bought: dict[str, Purchase]) -> None:
        """Each token was made once and taken once: one command besides its making, which was done, and no other."""
        paid = {purchase.token for purchase in bought.values()}
        records = await _newest(jetstream, "payment-3p")
        for token, record in records.items():
            answers = [bytes(handled.reply) for handled in record.handled]
            if token not in tokens:
                self.twice.append(f"payment-3p: {token}, which nobody asked for")
            elif token in paid and bytes(record.state) != b"null":
                self.lost.append(f"payment-3p: {token} is not spent")
            elif token in paid and (len(answers) != 2 or answers[1] != b'{"ok":true}' or record.evicted_until):
                self.twice.append(f"payment-3p: {token} was answered {answers}")
        self.lost += [f"payment-3p: {token} is gone" for token in tokens - records.keys()]


async def _newest(jetstream: JetStream, service: str) -> dict[str, Record]:
    """Return the newest record of each key (here keys are ids, which are their own tokens)."""
    names = Names(service, NAMESPACE)
    found: dict[str, Record] = {}
    async for stored in jetstream.read(names.turns_stream, names.turn("*"), last_per_subject=True):
        found[stored.subject.rpartition(".")[2]] = decode_record(stored.payload, stored.subject)
    return found
