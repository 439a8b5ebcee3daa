"""cliffracer as its documentation advises: a service with an `@rpc` method and its OpenTelemetry extension, log off."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cliffracer import CliffracerService, ServiceConfig, rpc
from loguru import logger
from pydantic import BaseModel

from bench.sides.otel import Exporting, sdk_provider


class OrderLine(BaseModel):
    """`work.Line` as a pydantic model."""

    product: str
    quantity: int
    price: int


class Priced(BaseModel):
    """`work.Quote` as a pydantic model."""

    order_id: str
    total: int


class Pricing(CliffracerService):
    """Answers quotes on ``<name>.rpc.get_quote``. cliffracer's RPC supports pydantic models only."""

    @rpc
    async def get_quote(self, order_id: str, customer: str, street: str, city: str, lines: list[OrderLine]) -> Priced:
        """Price an order."""
        return Priced(order_id=order_id, total=sum([line.quantity * line.price for line in lines]))


@asynccontextmanager
async def pricing(url: str, name: str, traced: bool) -> AsyncIterator[Exporting]:
    """Answer quotes on ``<name>.rpc.get_quote``; export spans if `traced`."""
    logger.remove()
    exporting = Exporting(sdk_provider(name) if traced else None)
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
