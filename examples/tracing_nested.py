"""Nested tracing: spans that handlers start with the OpenTelemetry API are part of the trace of the request.

    python examples/tracing_nested.py
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 actorloom run examples.tracing_nested     # to Jaeger
    nats req baskets.command.check_out '{"basketId": "1", "items": ["tea", "milk"]}'

It prints the trace of one request as a tree. Each client span is the parent of its server span, spans of handlers are at
the place they were started, and an event continues in the reaction to it, in the same trace::

    shopper   baskets/check_out                                CLIENT
    baskets     baskets/check_out                              SERVER
    baskets       add up                                       INTERNAL items=2
    baskets         prices/get_price                           CLIENT
    prices            prices/get_price                         SERVER
    prices              look up tea                            INTERNAL
    baskets         prices/get_price                           CLIENT
    prices            prices/get_price                         SERVER
    prices              look up milk                           INTERNAL
    baskets       commit baskets                               INTERNAL
    baskets       publish baskets.event.basket_paid.{key}      PRODUCER
    ledger          process baskets.event.basket_paid.{key}    CONSUMER
    ledger            write the books                          INTERNAL
    ledger            commit ledger                            INTERNAL
"""

import asyncio

from msgspec import Struct
from opentelemetry import trace

from runtime import Actor, Command, Event, Query, command, local, query, react
from runtime.telemetry import SpanRecord, Tracing

# The tracer of the spans in this module. Spans that start in a handler belong to the service of its actor.
tracer = trace.get_tracer("examples.tracing_nested")


class GetPrice(Query[int], actor="prices"):
    item: str


class Prices(Actor):
    """Returns prices."""

    name = "prices"

    @query
    async def get_price(self, message: GetPrice) -> int:
        with tracer.start_as_current_span(f"look up {message.item}"):
            return 3 * len(message.item)


class CheckOut(Command[int], actor="baskets", key="basket_id", rename="camel"):
    basket_id: str
    items: tuple[str, ...]


class BasketPaid(Event, actor="baskets", key="basket_id", rename="camel"):
    basket_id: str
    total: int


class Basket(Struct, frozen=True):
    total: int


class Baskets(Actor[Basket]):
    """Adds up baskets and takes the payment."""

    name = "baskets"

    @command
    async def check_out(self, message: CheckOut) -> int:
        with tracer.start_as_current_span("add up") as span:
            span.set_attribute("items", len(message.items))
            # Queries inside the block are children of its span. Each task has its own context, so messages do not mix.
            total = sum([await self.query(GetPrice(item)) for item in message.items])
        self.state = Basket(total)
        self.emit(BasketPaid(message.basket_id, total))
        return total


class Written(Struct, frozen=True):
    total: int


class GetWritten(Query[int], actor="ledger", key="basket_id"):
    basket_id: str


class Ledger(Actor[Written]):
    """Keeps the books."""

    name = "ledger"

    @react
    async def on_basket_paid(self, event: BasketPaid) -> None:
        with tracer.start_as_current_span("write the books"):
            self.state = Written(event.total)

    @query
    async def get_written(self, message: GetWritten) -> int:
        return self.state.total if self.state else 0


def show(spans: list[SpanRecord], parent: str | None = None, depth: int = 0) -> None:
    """Print the children of `parent` in order of start time, each followed by its own children."""
    for span in sorted(spans, key=lambda span: span.start):
        if span.parent_id == parent:
            items = f" items={span.attributes['items']!r}" if "items" in span.attributes else ""
            print(f"{span.service:<10}{'  ' * depth + span.name:<49}{span.kind.name}{items}")
            show(spans, span.span_id, depth + 1)


async def main() -> None:
    # Spans are kept in memory to print them. Without `tracing` the OTEL_* variables configure their export.
    tracing = Tracing(in_memory=True)
    async with local(Prices, Baskets, Ledger, service="shopper", tracing=tracing) as bus:
        await bus.command(CheckOut("1", items=("tea", "milk")))
        while not await bus.query(GetWritten("1")):
            await asyncio.sleep(0.01)
    spans = tracing.finished()
    [request] = [span for span in spans if span.parent_id is None and span.name == "baskets/check_out"]
    show([span for span in spans if span.trace_id == request.trace_id])


if __name__ == "__main__":
    asyncio.run(main())
