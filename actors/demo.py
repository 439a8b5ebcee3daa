"""The demo: runs the shop on an embedded nats-server, takes one order through it, and prints the trace of the order."""

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
from runtime.host.signals import drain_on_signals
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
"""Seconds to wait for each step of the order and for its trace."""

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
    """Run the demo and return the exit code of the process.

    Args:
        console: The console to print on.
        leave: End after the order instead of running until Ctrl-C.
        nats_server: The file of the nats-server to run; found by itself if None.
        port: The port of the nats-server. Another one is used if it is taken.

    Raises:
        ActorError: There is no nats-server, or a step of the order failed.
        TimeoutError: A step of the order did not happen in time.
    """
    stop = asyncio.Event()
    task = asyncio.current_task()
    order_done = False

    def interrupt(_: signal.Signals) -> None:
        stop.set()
        if not order_done and task is not None:
            task.cancel()

    with drain_on_signals(interrupt):
        try:
            async with AsyncExitStack() as stack:
                server, bus, tracing = await _started(console, stack, nats_server, port)
                order, trace_id = await _order(console, bus, tracing)
                console.print()
                console.print(render(await _trace(tracing, trace_id), rich=True), soft_wrap=True)
                _print_next_steps(console, server, order, trace_id, leave)
                if not leave:
                    order_done = True
                    await stop.wait()
                    console.print("\n[dim]draining …[/]")
            return 0
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
            console.print("\n[dim]interrupted[/]")
            return 130


async def _started(
    console: Console, stack: AsyncExitStack, nats_server: str | None, port: int
) -> tuple[EmbeddedServer, Bus, Tracing]:
    """Start nats-server, the services and tracing, which end with `stack`."""
    started = time.perf_counter()
    server = await stack.enter_async_context(EmbeddedServer(port=port, binary=nats_server))
    taken = f" [yellow](port {port} is taken)[/]" if port and server.port != port else ""
    console.print(f"[bold]NATS[/]      {server.url}{taken} [dim]embedded; its data is deleted at the end[/]")
    tracing = Tracing.from_env(in_memory=True)
    tracing.install()
    stack.push_async_callback(asyncio.to_thread, tracing.shutdown)
    connection = await Connection.connect(ConnectionOptions(url=server.url), name="demo")
    stack.push_async_callback(connection.close)
    await stack.enter_async_context(serving(SERVICES, connection, tracing))
    console.print(f"[bold]services[/]  {' '.join(service.name for service in SERVICES)} [dim]{_since(started)}[/]")
    return server, Bus(connection, tracing.service("customer")), tracing


async def _order(console: Console, bus: Bus, tracing: Tracing) -> tuple[Order, str]:
    """Fill the catalog, take one order through the shop, and return the order and the id of its trace."""
    started = time.perf_counter()
    await asyncio.gather(*(bus.command(product) for product in _PRODUCTS))
    console.print(
        f"[bold]products[/]  {' '.join(product.product_id for product in _PRODUCTS)} [dim]{_since(started)}[/]\n"
    )
    root = tracing.service("customer").template("order", SpanKind.INTERNAL).start(None)
    drive = _Drive(console, bus, root)
    try:
        order = await drive.through()
    finally:
        root.end()
    return order, root.trace.decode() if isinstance(root, LeanSpan) else ""


class _Drive:
    """Acts as the customer, packer and courier of one order.

    Their requests are part of the trace of the order; the polling for the effects of events is not.
    """

    def __init__(self, console: Console, bus: Bus, root: Any) -> None:
        self._console = console
        self._bus = bus
        self._root = root

    async def through(self) -> Order:
        """Take one order from its price to its delivery and payment, and return it."""
        pricing = await self._query(
            GetDeliveryPricing(_BASKET, _ADDRESS), lambda reply: f"{reply.pricing} for the delivery"
        )
        total = sum(line.price * line.quantity for line in _BASKET) + pricing.pricing
        card = await self._command(Preauth("4242424242424242", total), lambda _: f"{total} reserved on the card")
        request = OrderRequest(_BASKET, _ADDRESS, pricing.pricing, card.payment_token)
        created = await self._command(
            CreateOrder("ada", request), lambda reply: f"{reply.message}, {reply.order and reply.order.status}"
        )
        if created.order is None:
            raise ActorError(f"the order was refused: {'; '.join(created.errors)}")
        order_id = created.order.order_id
        await self._until("warehouse has a packaging request", GetPackagingRequest(order_id), lambda _: True)
        await self._command(StartPackaging(order_id), lambda _: "in progress")
        await self._command(CompletePackaging(order_id), lambda _: "packed")
        await self._until(
            "orders knows that it is PACKAGED", GetOrder(order_id), lambda order: order.status == "PACKAGED"
        )
        await self._until("delivery has a parcel to deliver", GetDelivery(order_id), lambda _: True)
        await self._command(StartDelivery(order_id), lambda _: "on its way")
        await self._command(CompleteDelivery(order_id), lambda _: "delivered")
        order = await self._until(
            "orders knows that it is FULFILLED", GetOrder(order_id), lambda order: order.status == "FULFILLED"
        )
        await self._until("payment has taken the money", Check(card.payment_token, 0), lambda reply: not reply.ok)
        return order

    async def _query(self, message: Query[R], outcome: Callable[[R], str]) -> R:
        return await self._step("query", message, self._bus.query, outcome)

    async def _command(self, message: Command[R], outcome: Callable[[R], str]) -> R:
        return await self._step("command", message, self._bus.command, outcome)

    async def _step(
        self, verb: str, message: Any, send: Callable[[Any], Awaitable[R]], outcome: Callable[[R], str]
    ) -> R:
        started = time.perf_counter()
        with attached(self._root):
            reply = await send(message)
        contract = contract_of(message)
        self._print_step(verb, f"{contract.actor}.{contract.name}", outcome(reply), started)
        return reply

    async def _until(self, step: str, query: Query[R], reached: Callable[[R], object]) -> R:
        """Repeat a query until its reply is as expected: reactions to events run in the background."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        reply = await self._bus.query(query)
                    except NotFound:
                        reply = None
                    if reply is not None and reached(reply):
                        self._print_step("react", step, "", started)
                        return reply
                    await asyncio.sleep(0.002)
        except TimeoutError:
            raise TimeoutError(f"{step}: not within {PATIENCE:.0f} s") from None

    def _print_step(self, verb: str, step: str, outcome: str, started: float) -> None:
        color = {"query": "cyan", "command": "magenta", "react": "yellow"}[verb]
        self._console.print(f"[{color}]{verb:<8}[/] {step:<34} {escape(outcome):<30} [dim]{_since(started):>9}[/]")


async def _trace(tracing: Tracing, trace_id: str) -> list[SpanRecord]:
    """Return the spans of the order once all reactions to its events have ended; none if the trace was not sampled."""
    if not trace_id:
        return []
    expected = Counter(
        f"publish {event.__contract__.actor}.event.{event.__contract__.name}.{{key}}"
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
        return spans  # a partial trace is more useful than an error
    return spans


def _complete(spans: Sequence[SpanRecord], expected: Counter[str]) -> bool:
    """Return True if all spans have their parents, and each event has the expected number of reactions."""
    ended = {span.span_id for span in spans}
    handled = Counter(span.parent_id for span in spans if span.kind is SpanKind.CONSUMER)
    return bool(spans) and all(
        (span.parent_id is None or span.parent_id in ended)
        and (span.kind is not SpanKind.PRODUCER or handled[span.span_id] >= expected[span.name])
        for span in spans
    )


def _print_next_steps(console: Console, server: EmbeddedServer, order: Order, trace_id: str, leave: bool) -> None:
    console.print(f"\n[bold green]Order {order.order_id} is {order.status} and paid:[/] {order.total}\n")
    if leave:
        return
    nats = f"nats --server {server.url}"
    own = f"{_own_command()} {{}}" + (f" --nats {server.url}" if server.port != DEFAULT_PORT else "")
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    jaeger = (
        f"the trace was sent to {endpoint}; in Jaeger: http://localhost:16686/trace/{trace_id}"
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
    console.print("\n[dim]The demo runs until you press Ctrl-C.[/]")


def _own_command() -> str:
    """Return the command to type: `actorloom` if it is on the path, else its file, else the module."""
    beside = Path(sys.executable).with_name("actorloom")
    if shutil.which("actorloom"):
        return "actorloom"
    return os.path.relpath(beside) if beside.exists() else f"{os.path.relpath(sys.executable)} -m runtime"


def _since(started: float) -> str:
    return f"{(time.perf_counter() - started) * 1000:.1f} ms"
