"""The demo: the shop on an embedded nats-server, one order from its price to its delivery and payment, and its trace."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from opentelemetry.trace import SpanKind
from rich.console import Console
from rich.markup import escape

from runtime.actor.base import Actor
from runtime.actor.message import Command, Query, contract_of
from runtime.client.bus import Bus
from runtime.errors import ActorError, NotFound
from runtime.host.process import serving
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import DEFAULT_PORT, EmbeddedServer
from runtime.telemetry import LeanSpan, SpanRecord, Tracing, attached
from runtime.telemetry.tree import render

from .delivery.actor import Deliveries
from .delivery.messages import Address, CompleteDelivery, GetDelivery, GetDeliveryPricing, StartDelivery
from .orders.actor import Orders
from .orders.messages import CreateOrder, GetOrder, Order, OrderRequest
from .payment.actor import Payments
from .payment_3p.actor import PaymentProvider
from .payment_3p.messages import Check, Preauth
from .products.actor import Products
from .products.messages import CreateProduct, OrderedProduct, Package
from .warehouse.actor import Warehouse
from .warehouse.messages import CompletePackaging, GetPackagingRequest, StartPackaging

SERVICES: tuple[type[Actor[Any]], ...] = (Products, Deliveries, Orders, Warehouse, Payments, PaymentProvider)

PATIENCE = 20.0
"""Seconds within which each step of the order must be seen to happen."""

_PACKAGE = Package(width=300, length=200, height=100, weight=800)
_PRODUCTS = (
    CreateProduct("shirt", "Linen shirt", _PACKAGE, 2500, category="clothes", tags=("summer",)),
    CreateProduct("shoes", "Canvas shoes", _PACKAGE, 6000, category="clothes"),
    CreateProduct("mug", "Enamel mug", _PACKAGE, 900, category="kitchen"),
)
_ADDRESS = Address("Ada", "12 Rue de la Paix", "Paris", "FR", "+33 1 23 45 67 89", post_code="75002")
_BASKET = (
    OrderedProduct("shirt", "Linen shirt", _PACKAGE, 2500, 2),
    OrderedProduct("mug", "Enamel mug", _PACKAGE, 900, 1),
)

R = TypeVar("R")


async def demo(
    console: Console, *, leave: bool = False, nats_server: str | None = None, port: int = DEFAULT_PORT
) -> int:
    """Run it, and return the exit code. With `leave` it ends after the order, else it stays up until Ctrl-C.

    Raises `ActorError` (no nats-server, a step that failed) and `TimeoutError` (a step that did not happen).
    """
    stop = asyncio.Event()
    interrupt = _Interrupt(stop)
    with interrupt:
        try:
            async with AsyncExitStack() as stack:
                server, bus, tracing = await _started(console, stack, nats_server, port)
                order, trace_id = await _order(console, bus, tracing)
                console.print()
                console.print(render(await _trace(tracing, trace_id), rich=True), soft_wrap=True)
                _say_next(console, server, order, trace_id, leave)
                if not leave:
                    interrupt.expected = True
                    await stop.wait()
                    console.print("\n[dim]draining …[/]")
            return 0
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
            console.print("\n[dim]interrupted[/]")
            return 130


class _Interrupt:
    """While open, Ctrl-C or SIGTERM sets `stop`, and cancels the task unless it is `expected`; a second one ends at once."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.expected = False
        self._stop = stop

    def __enter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._received, number)

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.remove_signal_handler(number)

    def _received(self, number: int) -> None:
        if self._stop.is_set():
            os._exit(128 + number)
        self._stop.set()
        if not self.expected and self._task is not None:
            self._task.cancel()


async def _started(
    console: Console, stack: AsyncExitStack, nats_server: str | None, port: int
) -> tuple[EmbeddedServer, Bus, Tracing]:
    begun = time.perf_counter()
    server = await stack.enter_async_context(EmbeddedServer(port=port, binary=nats_server))
    taken = f" [yellow](port {port} is taken)[/]" if port and server.port != port else ""
    console.print(f"[bold]NATS[/]      {server.url}{taken} [dim]embedded; its data goes when it ends[/]")
    tracing = Tracing.from_env(in_memory=True)
    tracing.install()
    stack.push_async_callback(asyncio.to_thread, tracing.shutdown)
    connection = await Connection.connect(ConnectionOptions(url=server.url), name="demo")
    stack.push_async_callback(connection.close)
    await stack.enter_async_context(serving(SERVICES, connection, tracing))
    console.print(f"[bold]services[/]  {' '.join(service.name for service in SERVICES)} [dim]{_since(begun)}[/]")
    return server, Bus(connection, tracing.service("customer")), tracing


async def _order(console: Console, bus: Bus, tracing: Tracing) -> tuple[Order, str]:
    """Fill the catalog and take one order through the shop; return it and its trace's id."""
    begun = time.perf_counter()
    await asyncio.gather(*(bus.command(product) for product in _PRODUCTS))
    console.print(
        f"[bold]products[/]  {' '.join(product.product_id for product in _PRODUCTS)} [dim]{_since(begun)}[/]\n"
    )
    root = tracing.service("customer").template("order", SpanKind.INTERNAL).start(None)
    drive = _Drive(console, bus, root)
    try:
        order = await drive.through()
    finally:
        root.end()
    return order, root.trace.decode() if isinstance(root, LeanSpan) else ""


class _Drive:
    """Customer, packer and courier of one order. What they do is in the order's trace; what they wait for is not."""

    def __init__(self, console: Console, bus: Bus, root: Any) -> None:
        self._console = console
        self._bus = bus
        self._root = root

    async def through(self) -> Order:
        """Take one order from its price to fulfilled and paid."""
        pricing = await self._ask(
            GetDeliveryPricing(_BASKET, _ADDRESS), lambda reply: f"{reply.pricing} for the delivery"
        )
        total = sum(line.price * line.quantity for line in _BASKET) + pricing.pricing
        card = await self._tell(Preauth("4242424242424242", total), lambda _: f"{total} reserved on the card")
        request = OrderRequest(_BASKET, _ADDRESS, pricing.pricing, card.payment_token)
        created = await self._tell(
            CreateOrder("ada", request), lambda reply: f"{reply.message}, {reply.order and reply.order.status}"
        )
        if created.order is None:
            raise ActorError(f"the order was refused: {'; '.join(created.errors)}")
        order_id = created.order.order_id
        await self._until("warehouse has a packaging request", GetPackagingRequest(order_id), lambda _: True)
        await self._tell(StartPackaging(order_id), lambda _: "in progress")
        await self._tell(CompletePackaging(order_id), lambda _: "packed")
        await self._until(
            "orders knows that it is PACKAGED", GetOrder(order_id), lambda order: order.status == "PACKAGED"
        )
        await self._until("delivery has a parcel to deliver", GetDelivery(order_id), lambda _: True)
        await self._tell(StartDelivery(order_id), lambda _: "on its way")
        await self._tell(CompleteDelivery(order_id), lambda _: "delivered")
        order = await self._until(
            "orders knows that it is FULFILLED", GetOrder(order_id), lambda order: order.status == "FULFILLED"
        )
        await self._until("payment has taken the money", Check(card.payment_token, 0), lambda reply: not reply.ok)
        return order

    async def _ask(self, message: Query[R], outcome: Callable[[R], str]) -> R:
        return await self._step("query", message, self._bus.query, outcome)

    async def _tell(self, message: Command[R], outcome: Callable[[R], str]) -> R:
        return await self._step("command", message, self._bus.command, outcome)

    async def _step(
        self, verb: str, message: Any, send: Callable[[Any], Awaitable[R]], outcome: Callable[[R], str]
    ) -> R:
        begun = time.perf_counter()
        with attached(self._root):
            reply = await send(message)
        contract = contract_of(message)
        self._say(verb, f"{contract.actor}.{contract.name}", outcome(reply), begun)
        return reply

    async def _until(self, what: str, query: Query[R], reached: Callable[[R], object]) -> R:
        """Ask until the answer is as it should be: events take their own time."""
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        reply = await self._bus.query(query)
                    except NotFound:
                        reply = None
                    if reply is not None and reached(reply):
                        self._say("react", what, "", begun)
                        return reply
                    await asyncio.sleep(0.002)
        except TimeoutError:
            raise TimeoutError(f"not within {PATIENCE:.0f} s: {what}") from None

    def _say(self, verb: str, what: str, outcome: str, begun: float) -> None:
        color = {"query": "cyan", "command": "magenta", "react": "yellow"}[verb]
        self._console.print(f"[{color}]{verb:<8}[/] {what:<34} {escape(outcome):<30} [dim]{_since(begun):>9}[/]")


async def _trace(tracing: Tracing, trace_id: str) -> list[SpanRecord]:
    """Return the order's spans, when all that its events set off have ended; none where the sampler refused it."""
    if not trace_id:
        return []
    expected = Counter(
        f"publish {event.__contract__.actor}.event.{event.__contract__.name}"
        for service in SERVICES
        for event, handlers in service.handlers.reactions.items()
        if any(handler.where is None for handler in handlers)
    )
    spans: list[SpanRecord] = []
    try:
        async with asyncio.timeout(PATIENCE):
            while not _complete(spans, expected):
                await asyncio.sleep(0.01)
                spans = [span for span in tracing.finished() if span.trace_id == trace_id]
    except TimeoutError:
        return spans  # what there is of it says more than an error
    return spans


def _complete(spans: Sequence[SpanRecord], expected: Counter[str]) -> bool:
    """Whether every span's parent has ended, and every event has been handled by all who react to it in any case."""
    ended = {span.span_id for span in spans}
    handled = Counter(span.parent_id for span in spans if span.kind is SpanKind.CONSUMER)
    return bool(spans) and all(
        (span.parent_id is None or span.parent_id in ended)
        and (span.kind is not SpanKind.PRODUCER or handled[span.span_id] >= expected[span.name])
        for span in spans
    )


def _say_next(console: Console, server: EmbeddedServer, order: Order, trace_id: str, leave: bool) -> None:
    console.print(f"\n[bold green]Order {order.order_id} is {order.status} and paid:[/] {order.total}\n")
    if leave:
        return
    nats = f"nats --server {server.url}"
    own = f"{_own_command()} {{}}" + (f" --nats {server.url}" if server.port != DEFAULT_PORT else "")
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    jaeger = (
        f"the trace went to {endpoint}; in Jaeger: http://localhost:16686/trace/{trace_id}"
        if endpoint
        else "start one (docker compose up jaeger), then OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 make demo"
    )
    body = f'{{"orderId":"{order.order_id}"}}'
    console.print("[bold]Next[/], in another terminal:")
    for line in (
        own.format(f"query orders.get_order orderId={order.order_id}"),
        own.format("describe orders"),
        own.format("graph"),
        f"{nats} req orders.query.get_order '{body}'",
        f"{nats} sub '*.event.>'",
        f"{nats} micro ls",
    ):
        console.print(f"  {escape(line)}", soft_wrap=True, highlight=False)
    console.print(f"[bold]Jaeger[/]: {escape(jaeger)}", soft_wrap=True, highlight=False)
    console.print("\n[dim]It stays up until Ctrl-C.[/]")


def _own_command() -> str:
    """How the command line is called from here: by its name where it is on the path, else by its file, else as a module."""
    beside = Path(sys.executable).with_name("actorloom")
    if shutil.which("actorloom"):
        return "actorloom"
    return os.path.relpath(beside) if beside.exists() else f"{os.path.relpath(sys.executable)} -m runtime"


def _since(begun: float) -> str:
    return f"{(time.perf_counter() - begun) * 1000:.1f} ms"
