"""Nested tracing: what a handler does inside is seen too, by the OpenTelemetry API as everybody knows it.

    python examples/tracing_nested.py
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 python -m runtime run examples.tracing_nested     # to a Jaeger
    nats req baskets.command.check_out '{"basketId": "1", "items": ["tea", "milk"]}'

It prints one request's trace as a tree. A client span has its server span below it; the spans that the handlers started
themselves lie where they were started; an event leads on to the reaction, in the same trace::

    shopper   baskets/check_out                          CLIENT
    baskets     baskets/check_out                        SERVER
    baskets       add up                                 INTERNAL items=2
    baskets         prices/get_price                     CLIENT
    prices            prices/get_price                   SERVER
    prices              look up tea                      INTERNAL
    baskets         prices/get_price                     CLIENT
    prices            prices/get_price                   SERVER
    prices              look up milk                     INTERNAL
    baskets       commit baskets                         INTERNAL
    baskets       publish baskets.event.basket_paid      PRODUCER
    ledger          process baskets.event.basket_paid    CONSUMER
    ledger            write the books                    INTERNAL
    ledger            commit ledger                      INTERNAL
"""

import asyncio

from msgspec import Struct
from opentelemetry import trace

from runtime import Actor, Command, Event, Query, command, local, query, react
from runtime.telemetry import SpanRecord, Tracing

# The tracer of this module's own spans. Under an actor's handler they belong to that actor's service.
tracer = trace.get_tracer("examples.tracing_nested")


class GetPrice(Query[int], actor="prices"):
    item: str


class Prices(Actor):
    """Knows what things cost."""

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
    """Adds up and takes the money."""

    name = "baskets"

    @command
    async def check_out(self, message: CheckOut) -> int:
        with tracer.start_as_current_span("add up") as span:
            span.set_attribute("items", len(message.items))
            # Queries inside the block hang below its span: the context is the task's own, with many messages at once too.
            total = sum([await self.query(GetPrice(item)) for item in message.items])
        self.state = Basket(total)
        self.emit(BasketPaid(message.basket_id, total))
        return total


class Written(Struct, frozen=True):
    total: int


class GetWritten(Query[int], actor="ledger", key="basket_id"):
    basket_id: str


class Ledger(Actor[Written]):
    """Writes the books."""

    name = "ledger"

    @react
    async def on_basket_paid(self, event: BasketPaid) -> None:
        with tracer.start_as_current_span("write the books"):
            self.state = Written(event.total)

    @query
    async def get_written(self, message: GetWritten) -> int:
        return self.state.total if self.state else 0


def show(spans: list[SpanRecord], parent: str | None = None, depth: int = 0) -> None:
    """Print the spans below `parent` in order of time, each with its own below it."""
    for span in sorted(spans, key=lambda span: span.start):
        if span.parent_id == parent:
            items = f" items={span.attributes['items']}" if "items" in span.attributes else ""
            print(f"{span.service:<10}{'  ' * depth + span.name:<43}{span.kind.name}{items}")
            show(spans, span.span_id, depth + 1)


async def main() -> None:
    # Spans are kept in memory here, to be printed. Without `tracing` they go where the OTEL_* variables say.
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
