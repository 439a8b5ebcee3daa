"""cliffracer, as its documentation shows it: a service with an `@rpc` method, its own OpenTelemetry extension, log off."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cliffracer import CliffracerService, ServiceConfig, rpc
from loguru import logger
from pydantic import BaseModel

from bench.sides.otel import Exporting, provider


class OrderLine(BaseModel):
    """`work.Line`."""

    product: str
    quantity: int
    price: int


class Priced(BaseModel):
    """`work.Quote`."""

    order_id: str
    total: int


class Pricing(CliffracerService):
    """Answers quotes on ``<name>.rpc.get_quote``; its RPC takes pydantic models only."""

    @rpc
    async def get_quote(self, order_id: str, customer: str, street: str, city: str, lines: list[OrderLine]) -> Priced:
        """Price an order."""
        return Priced(order_id=order_id, total=sum([line.quantity * line.price for line in lines]))


@asynccontextmanager
async def pricing(url: str, name: str, traced: bool) -> AsyncIterator[Exporting]:
    """Answer quotes."""
    logger.remove()
    exporting = Exporting(provider(name) if traced else None)
    kind: type[Pricing] = Pricing
    if traced:
        from cliffracer.core.extension import SharedDependency
        from cliffracer_otel import OtelExtension

        otel = OtelExtension(tracer_provider=SharedDependency(exporting.provider))
        kind = type("TracedPricing", (Pricing,), {"otel": otel})
    service = kind(ServiceConfig(name=name, nats_url=url, health_listener=False, log_level="ERROR"))
    await service.start()
    yield exporting
    await service.stop()
