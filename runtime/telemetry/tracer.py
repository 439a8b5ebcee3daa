"""The tracing and metrics of a process, and of each service in it: from `OTEL_*` variables to templates."""

import logging
import os
import uuid
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Self

from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from runtime.telemetry import semconv
from runtime.telemetry.export import settings
from runtime.telemetry.export.settings import Batching, Endpoint
from runtime.telemetry.export.span_exporter import SpanExporter
from runtime.telemetry.memory import SpanRecord, record_of
from runtime.telemetry.metrics.instruments import Counter, Durations
from runtime.telemetry.metrics.registry import Metrics
from runtime.telemetry.spans.provider import install
from runtime.telemetry.spans.recorder import Recorder
from runtime.telemetry.spans.sampling import Sampler, Sampling, SamplingDecision
from runtime.telemetry.spans.scope import Service
from runtime.telemetry.spans.template import ParentMode, Template
from runtime.telemetry.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

DEFAULT_SERVICE = "actorloom"
logger = logging.getLogger("actorloom.telemetry")


class ServiceTracer(Service):
    """The templates of one service (one actor type); its name and version are the resource of its spans."""

    def __init__(self, tracing: "Tracing", name: str, resource: dict[str, AttributeValue]) -> None:
        super().__init__(name, resource, tracing.recorder)
        self.tracing = tracing
        self._instruments: dict[tuple[str, str], Durations | Counter] = {}

    def template(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, AttributeValue] | None = None,
        *,
        parent_mode: ParentMode | None = None,
    ) -> Template:
        """Prepare the spans of an operation. Make it once per handler; starting spans is then cheap.

        `parent_mode` says what a received span makes of its remote parent: "parent"; "parent+link" (the default of CONSUMER,
        since the conventions ask for a link and Jaeger's graph looks at parents only); "link": a trace of its own.
        """
        chosen = parent_mode or (self.tracing.consumer_parent_mode if kind is SpanKind.CONSUMER else "parent")
        own = self.scope(semconv.SCOPE, VERSION)
        return Template(own, name, kind, dict(attributes or {}), chosen)

    def durations(self, name: str, attributes: Mapping[str, AttributeValue]) -> Durations:
        """The histogram `name` (seconds) of these attributes; the same one at every call."""
        series = (name, repr(sorted(attributes.items())))
        found = self._instruments.get(series)
        if not isinstance(found, Durations):
            found = self._instruments[series] = self.tracing.metrics.durations(self, name, attributes)
        return found

    def counter(self, name: str, attributes: Mapping[str, AttributeValue]) -> Counter:
        """The counter `name` of these attributes; the same one at every call."""
        series = (name, repr(sorted(attributes.items())))
        found = self._instruments.get(series)
        if not isinstance(found, Counter):
            found = self._instruments[series] = self.tracing.metrics.counter(self, name, attributes)
        return found


class Tracing:
    """The tracing of a process: one sampler, one queue to the exporter, one `ServiceTracer` per service name.

    Without an exporter and without `in_memory` nothing is recorded, and a trace context that comes in is passed on.
    """

    def __init__(
        self,
        *,
        sampler: Sampler | Sampling | None = None,
        in_memory: bool = False,
        endpoint: Endpoint | None = None,
        batching: Batching | None = None,
        resource: Mapping[str, AttributeValue] | None = None,
        consumer_parent_mode: ParentMode = "parent+link",
        metrics: Metrics | None = None,
    ) -> None:
        if sampler is None:
            sampler = Sampling.from_env({})
        sampling = sampler if isinstance(sampler, Sampling) else Sampling.of(sampler)
        self.recorder = Recorder(sampling, in_memory=in_memory)
        self.consumer_parent_mode: ParentMode = consumer_parent_mode
        self.metrics = metrics or Metrics()
        self._resource = dict(resource or {})
        self._instance = str(uuid.uuid4())
        self._services: dict[str, ServiceTracer] = {}
        self._processors: list[SpanProcessor] = []
        self.exporter: SpanExporter | None = None
        if endpoint is not None:
            self.exporter = SpanExporter(self.recorder, endpoint, batching or Batching())

    @classmethod
    def from_env(
        cls,
        env: Mapping[str, str] | None = None,
        *,
        in_memory: bool = False,
        consumer_parent_mode: ParentMode = "parent+link",
    ) -> Self:
        """Read the standard `OTEL_*` variables: SDK_DISABLED, TRACES_EXPORTER, EXPORTER_OTLP_*, TRACES_SAMPLER, BSP_*.

        Exporters besides `otlp` (`console`, or what is installed) are the SDK's, each behind its own batch processor.
        """
        env = os.environ if env is None else env
        wanted = [] if settings.disabled(env) else settings.exporters(env, "traces")
        tracing = cls(
            sampler=Sampling.from_env(env),
            in_memory=in_memory,
            endpoint=settings.endpoint(env, "traces") if "otlp" in wanted else None,
            batching=settings.batching(env),
            consumer_parent_mode=consumer_parent_mode,
            resource=dict(settings.pairs(env.get("OTEL_RESOURCE_ATTRIBUTES", ""))),
            metrics=Metrics.from_env(env),
        )
        for name in wanted:
            if name != "otlp":
                tracing._add_exporter(name)
        return tracing

    def service(self, name: str = DEFAULT_SERVICE, *, version: str = "", namespace: str = "") -> ServiceTracer:
        """The tracer of a service; the same object for the same name. The name overrides `OTEL_SERVICE_NAME`."""
        found = self._services.get(name)
        if found is None:
            resource: dict[str, AttributeValue] = {
                semconv.TELEMETRY_SDK_LANGUAGE: "python",
                semconv.TELEMETRY_SDK_NAME: "actorloom",
                semconv.TELEMETRY_SDK_VERSION: VERSION,
                semconv.SERVICE_INSTANCE_ID: self._instance,
                **({semconv.SERVICE_VERSION: version} if version else {}),
                **({semconv.SERVICE_NAMESPACE: namespace} if namespace else {}),
                **self._resource,
                semconv.SERVICE_NAME: name,
            }
            found = self._services[name] = ServiceTracer(self, name, resource)
        return found

    @property
    def records(self) -> bool:
        """Whether spans may be recorded at all."""
        return self.recorder.sampling.root is not SamplingDecision.PROPAGATE

    def finished(self) -> list[SpanRecord]:
        """The spans that ended so far, oldest first; for `in_memory` only."""
        return [record_of(span) for span in tuple(self.recorder.memory or ())]

    def install(self) -> None:
        """Serve the OpenTelemetry API: user spans are lean ones, and nest in ours. The last one installed serves."""
        install(self)
        self.metrics.install(self.service())

    def flush(self, timeout: float = 5.0) -> bool:
        """Export all that has ended, within `timeout` seconds; blocks, so call it in a thread. False: not all got out."""
        self.metrics.flush(timeout)
        flushed = [processor.force_flush(int(timeout * 1000)) for processor in self.recorder.processors]
        return all([*flushed, self.exporter is None or self.exporter.flush(timeout)])

    def shutdown(self, timeout: float = 5.0) -> bool:
        """`flush`, then stop the background thread; False where spans were lost. Blocks for at most `timeout` seconds."""
        for processor in self._processors:
            processor.shutdown()
        self.metrics.shutdown(timeout)
        return self.exporter is None or self.exporter.shutdown(timeout)

    def add_span_processor(self, processor: "SpanProcessor", *, owned: bool = True) -> None:
        """Tell an SDK span processor of every span, in the thread that ends it. Slower: each span is converted.

        An `owned` one is shut down with this tracing.
        """
        from runtime.telemetry.export.sdk import readable

        if owned:
            self._processors.append(processor)
        self.recorder.add_processor(processor, readable)

    def _add_exporter(self, name: str) -> None:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        for entry in entry_points(group="opentelemetry_traces_exporter", name=name):
            self.add_span_processor(BatchSpanProcessor(entry.load()()))
            return
        logger.warning("OTEL_TRACES_EXPORTER=%s is not known: nothing is exported to it", name)
