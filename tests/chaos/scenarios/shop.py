"""The shop, killed in the middle of orders: each order is packed, delivered and paid once."""

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
from runtime.wire.subjects import Names, published
from tests.chaos.cell import Result, Setting, timed
from tests.chaos.customers import Customers, Purchase
from tests.chaos.faults import POINTS, occurrence
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
"""The final status of each order by service, and the event that the service emits exactly once per order."""

Faults = Callable[[Customers, Worker, Servers], Awaitable[None]]
"""Injects faults while customers order, and returns when it is done."""

PATIENCE = 15.0
"""Seconds within which the reactions to the last step of an order must have run."""


async def shop(setting: Setting) -> Result:
    """The shop and the server are killed in the middle of orders: every order is fulfilled and charged once."""
    rng = setting.rng("shop")
    killed = [0, 0]

    async def kill(customers: Customers, worker: Worker, servers: Servers) -> None:
        killed[:] = await _kill(customers, worker, servers, rng, setting.size(60, 3))

    result = await _run(setting, "shop", ["-m", "runtime", "run", "actorloom_shop"], kill)
    result.faults = f"{killed[0]} kill -9 of the shop, {killed[1]} of the server"
    result.require(all(killed), "one kind of kill did not happen")
    return result


async def shop_steps(setting: Setting) -> Result:
    """The shop is killed at every step of its turns, in the middle of orders: every order is fulfilled and charged once."""
    rng = setting.rng("shop-steps")
    points = [
        point for point in POINTS if not point.startswith("dedup")
    ]  # an order has too few messages for a dedup entry
    kills = [f"{p}:{occurrence(rng, p, len(ACTORS), most=60)}" for p in points * setting.size(3, 1)]
    rng.shuffle(kills)

    async def wait(customers: Customers, worker: Worker, servers: Servers) -> None:
        await until(
            lambda: len(worker.exit_codes) >= len(kills) or customers.ended, 10.0 * len(kills), "the armed kills"
        )
        await customers.wait_for_more(20)

    result = await _run(setting, "shop-steps", ["-m", "tests.chaos.process", *ACTORS], wait, kills)
    result.faults = f"{len(kills)} kill -9 at {len(points)} points of the turn"
    return result


async def _run(setting: Setting, name: str, program: list[str], faults: Faults, kills: Sequence[str] = ()) -> Result:
    """Let customers order during the `faults`, and audit all orders.

    Args:
        setting: Parameters of the scenario.
        name: Name of the scenario.
        program: Command line of the shop, without the interpreter.
        faults: Injects the faults.
        kills: Fault points at which successive lives of the shop kill themselves.
    """
    result = Result(name, setting.seed)
    number = setting.size(12, 4)
    async with (
        timed(result),
        Servers(setting.directory) as servers,
        _connected(servers) as connection,
        Fleet(setting.directory, forks=setting.short) as fleet,
    ):
        arguments = [*program, "--nats", servers.url, "--namespace", NAMESPACE, "--lease-ttl", "1"]
        worker = fleet.start(Program(name, arguments, list(kills)))
        customers = Customers(connection, NAMESPACE, setting.rng("customers"), number)
        await customers.seed()
        customers.start()
        await faults(customers, worker, servers)
        await customers.stop()
        result.require(
            set(worker.exit_codes) <= {-signal.SIGKILL}, f"processes ended without a kill: {worker.exit_codes}"
        )
        await customers.repeat()
        await _audit(result, connection, customers)
        result.problems += [f"a stack trace in the log: {line}" for line in fleet.log_errors()[:5]]
    result.stall = customers.stall
    result.load = f"{number} customers, {len(customers.purchases)} orders, {customers.steps} steps"
    result.figures["attempts without an outcome"] = customers.unknown
    result.figures["orders placed again, a service was unreachable"] = customers.reordered
    return result


@asynccontextmanager
async def _connected(servers: Servers) -> AsyncIterator[Connection]:
    async with await Connection.connect(
        ConnectionOptions(url=servers.url, ping_interval=1.0), name="customers"
    ) as connection:
        yield connection


async def _kill(customers: Customers, worker: Worker, servers: Servers, rng: Random, times: int) -> tuple[int, int]:
    """Kill the shop, the server or both, `times` times, each after a random number of steps.

    Returns:
        The numbers of kills of the shop and of the server.
    """
    plan = ["shop", "server", "both", *rng.choices(["shop", "server", "both"], [6, 1, 1], k=max(times - 3, 0))]
    rng.shuffle(plan)
    shops = nodes = 0
    for target in plan[:times]:
        await customers.wait_for_more(rng.randint(1, 40))
        await asyncio.sleep(rng.uniform(0, 0.05))
        if target != "server":
            shops += worker.kill()
        if target != "shop":
            await servers.restart(servers.nodes[0])
            nodes += 1
    await customers.wait_for_more(20)
    return shops, nodes


async def _audit(result: Result, connection: Connection, customers: Customers) -> None:
    """Compare the outcomes that customers got with the streams, until they agree or `PATIENCE` is over."""
    jetstream = JetStream(connection, timeout=3.0)
    end = time.monotonic() + PATIENCE
    while True:
        found = _Comparison()
        await found.compare(jetstream, customers.purchases)
        if not (found.lost or found.twice) or time.monotonic() > end:
            break
        await asyncio.sleep(0.1)
    result.lost = len(customers.lost) + len(found.lost)
    result.twice = len(found.twice)
    result.figures["orders fulfilled and charged once"] = sum(purchase.done for purchase in customers.purchases)
    for kind, lines in (
        ("lost", customers.lost), ("lost", found.lost), ("twice", found.twice), ("unexpected", customers.unexpected)
    ):  # fmt: skip
        result.problems += [f"{kind}: {line}" for line in lines[:8]]


class _Comparison:
    """One comparison of all orders with the streams."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.twice: list[str] = []

    async def compare(self, jetstream: JetStream, purchases: list[Purchase]) -> None:
        """Record every difference."""
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
                self.twice.append(f"{number} {service} {name} of {key}, for which there is no command")

    def _count(self, quantity: str, found: int, expected: int, *, least: int | None = None) -> None:
        if found < (expected if least is None else least):
            self.lost.append(f"{quantity}: {found} times")
        elif found > expected:
            self.twice.append(f"{quantity}: {found} times")

    async def _events(
        self, jetstream: JetStream, service: str, events: Tally[tuple[str, str, str]], statuses: Tally[tuple[str, str]]
    ) -> None:
        """Count a service's events by name and key and the statuses of orders; record duplicate ids and dead letters."""
        names = Names(service, NAMESPACE)
        ids: Tally[str] = Tally()
        if service != "payment-3p":  # it emits no events and has no stream for them
            async for stored in jetstream.read(names.events_stream, names.stored_event("*")):
                ids[header_block.get(stored.headers, b"ce-id") or ""] += 1
                _, _, _, name, key = published(stored.subject).split(".")
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
        """Check that each order has its final status in a service, and that the service has no other orders."""
        records = await _newest(jetstream, service)
        for order_id in bought:
            record = records.pop(order_id, None)
            state: Any = None if record is None else msgspec.json.decode(record.state)
            if state is None or state["status"] != EFFECTS[service][0]:
                self.lost.append(f"{service}: {order_id} ends as {state}")
        for order_id, record in records.items():
            if bytes(record.state) != b"null":  # a rejected order leaves a record without a state
                self.twice.append(f"{service}: {order_id}, which no customer ordered: {bytes(record.state)[:200]!r}")

    async def _payments(self, jetstream: JetStream, tokens: set[str], bought: dict[str, Purchase]) -> None:
        """Check that each token was created once and charged once: two handled commands, of which the second succeeded."""
        paid = {purchase.token for purchase in bought.values()}
        records = await _newest(jetstream, "payment-3p")
        for token, record in records.items():
            answers = [bytes(handled.reply) for handled in record.handled]
            if token not in tokens:
                self.twice.append(f"payment-3p: {token}, which no customer requested")
            elif token in paid and bytes(record.state) != b"null":
                self.lost.append(f"payment-3p: {token} was not charged")
            elif token in paid and (len(answers) != 2 or answers[1] != b'{"ok":true}' or record.evicted_until):
                self.twice.append(f"payment-3p: {token} has the replies {answers}")
        self.lost += [f"payment-3p: {token} is missing" for token in tokens - records.keys()]


async def _newest(jetstream: JetStream, service: str) -> dict[str, Record]:
    """Return the newest record of each key. Keys are ids here, which are equal to their subject tokens."""
    names = Names(service, NAMESPACE)
    found: dict[str, Record] = {}
    async for stored in jetstream.read(names.turns_stream, names.turn("*"), last_per_subject=True):
        found[stored.subject.rpartition(".")[2]] = decode_record(stored.payload, stored.subject)
    return found
