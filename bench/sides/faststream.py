"""FastStream as its documentation advises: a broker with msgspec, its telemetry middleware, and a pull subscriber."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fast_depends.msgspec import MsgSpecSerializer
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, PullSub

from bench.sides.otel import Exporting, sdk_provider
from bench.work import Deposited, Quote, QuoteRequest, quote


@asynccontextmanager
async def pricing(url: str, subject: str, traced: bool) -> AsyncIterator[Exporting]:
    """Answer quotes on `subject`; export spans if `traced`."""
    exporting = Exporting(sdk_provider("pricing") if traced else None)
    middlewares: list[Any] = []
    if traced:
        from faststream.nats.opentelemetry import NatsTelemetryMiddleware

        middlewares.append(NatsTelemetryMiddleware(tracer_provider=exporting.provider))
    broker = NatsBroker(url, serializer=MsgSpecSerializer(), middlewares=middlewares, logger=None)

    @broker.subscriber(subject, queue="q")
    async def get_quote(request: QuoteRequest) -> Quote:
        return quote(request)

    async with broker:
        await broker.start()
        yield exporting


class Reactor:
    """Consumes a stream with a pull subscriber."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.rounds = 0

    async def consume(self, stream: str, subject: str, count: int) -> dict[str, Any]:
        """Handle `count` stored events, measured from the first handler to the last acknowledgement."""
        self.rounds += 1
        handled = total = begun = cpu = 0
        all_handled = asyncio.Event()
        broker = NatsBroker(self.url, serializer=MsgSpecSerializer(), logger=None)
        # With `declare` FastStream would change the stream to the subscriber's subject alone.
        source = JStream(stream, declare=False)

        @broker.subscriber(
            subject,
            stream=source,
            durable=f"faststream-{self.rounds}",
            pull_sub=PullSub(batch_size=64),
            ack_policy=AckPolicy.ACK,
        )
        async def on_deposited(event: Deposited) -> None:
            nonlocal handled, total, begun, cpu
            if not begun:
                begun, cpu = time.perf_counter_ns(), time.process_time_ns()
            total += event.amount
            handled += 1
            if handled == count:
                all_handled.set()

        async with broker:
            await broker.start()
            async with asyncio.timeout(120):
                await all_handled.wait()
            seconds = (time.perf_counter_ns() - begun) / 1e9
            return {"count": handled, "seconds": seconds, "cpu_us": (time.process_time_ns() - cpu) / 1e3}


@asynccontextmanager
async def reactor(url: str) -> AsyncIterator[Reactor]:
    """Provide a side that handles stored events."""
    logging.getLogger("faststream").setLevel(logging.ERROR)
    yield Reactor(url)
