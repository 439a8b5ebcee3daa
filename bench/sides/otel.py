"""The OpenTelemetry SDK for peers with telemetry of their own: batches over OTLP/HTTP, configured by the environment."""

import asyncio
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


class Exporting:
    """A side that exports its spans before a round is over. A provider of None means that it has none."""

    def __init__(self, provider: Any = None) -> None:
        self.provider = provider

    async def flush(self) -> dict[str, float]:
        """Export all ended spans. The SDK does not count exported and dropped spans, so the result is empty."""
        if self.provider is not None:
            await asyncio.to_thread(self.provider.force_flush, 20_000)
        return {}


def sdk_provider(service: str) -> TracerProvider:
    """Return the SDK's provider with a batch processor, configured by the ``OTEL_*`` variables."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
