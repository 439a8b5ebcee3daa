"""The OpenTelemetry SDK for peers that bring their own telemetry: batches over OTLP/HTTP, as the environment says."""

import asyncio
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


class Exporting:
    """A side that may have spans to send before a round is over."""

    def __init__(self, provider: Any = None) -> None:
        self.provider = provider

    async def flush(self) -> dict[str, float]:
        """Export what has ended. The SDK does not say how much it dropped."""
        if self.provider is not None:
            await asyncio.to_thread(self.provider.force_flush, 20_000)
        return {}


def provider(service: str) -> TracerProvider:
    """The SDK's provider with its batch processor; `OTEL_*` variables say where to and how many."""
    made = TracerProvider(resource=Resource.create({"service.name": service}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made
