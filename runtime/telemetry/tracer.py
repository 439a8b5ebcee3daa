"""The tracing of a process, and the tracers of its services: from `OTEL_*` variables to span templates."""

import logging
import os
import socket
import uuid
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Self

from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from runtime.telemetry import semconv
from runtime.telemetry.export import settings
from runtime.telemetry.export.settings import Batching, Endpoint
from runtime.telemetry.export.span_exporter import SpanExporter
from runtime.telemetry.export.variables import Variables
from runtime.telemetry.memory import SpanRecord, record_of
from runtime.telemetry.metrics.instruments import Counter, Durations, Gauge
from runtime.telemetry.metrics.publishes import Publishes
from runtime.telemetry.metrics.registry import Metrics
from runtime.telemetry.spans.limits import SpanLimits
from runtime.telemetry.spans.provider import install
from runtime.telemetry.spans.recorder import Recorder
from runtime.telemetry.spans.sampling import Sampler, Sampling, SamplingDecision
from runtime.telemetry.spans.scope import Service
from runtime.telemetry.spans.template import ParentMode, Template
from runtime.telemetry.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

DEFAULT_SERVICE = "actorloom"
"""The service of spans that are started outside any actor."""
logger = logging.getLogger("actorloom.telemetry")


@cache
def _address() -> str:
    """Return the address that packets to other machines carry; the host name if this machine sends none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation; connecting a datagram socket sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


class ServiceTracer(Service):
    """Creates the templates and instruments of one service, which is one actor type. `Tracing.service` returns it."""

    def __init__(self, tracing: "Tracing", name: str, resource: dict[str, AttributeValue]) -> None:
        super().__init__(name, resource, tracing.recorder)
        self.tracing = tracing
        self._instruments: dict[tuple[str, str], Durations | Counter | Gauge] = {}

    def template(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, AttributeValue] | None = None,
        *,
        parent_mode: ParentMode | None = None,
    ) -> Template:
        """Prepare the spans of an operation. Call it once per handler; starting a span is then cheap.

        Args:
            name: The name of the spans.
            kind: The kind of the spans.
            attributes: Attributes of every span.
            parent_mode: The relation of a received span to the sender's span: "parent", "parent+link", or "link", which
                starts a trace of its own. The default of CONSUMER spans is `Tracing.consumer_parent_mode`, that of
                all others "parent".
        """
        default = self.tracing.consumer_parent_mode if kind is SpanKind.CONSUMER else "parent"
        scope = self.scope(semconv.SCOPE, VERSION, semconv.SCHEMA_URL)
        return Template(scope, name, kind, dict(attributes or {}), parent_mode or default)

    def durations(self, name: str, attributes: Mapping[str, AttributeValue]) -> Durations:
        """Return the histogram (seconds) of that name and these attributes; the same object on each call."""
        series = _series(name, attributes)
        found = self._instruments.get(series)
        if not isinstance(found, Durations):
            found = self._instruments[series] = self.tracing.metrics.durations(self, name, attributes)
        return found

    def counter(self, name: str, attributes: Mapping[str, AttributeValue]) -> Counter:
        """Return the counter of that name and these attributes; the same object on each call."""
        series = _series(name, attributes)
        found = self._instruments.get(series)
        if not isinstance(found, Counter):
            found = self._instruments[series] = self.tracing.metrics.counter(self, name, attributes)
        return found

    def gauge(self, name: str, read: Callable[[], float | None], attributes: Mapping[str, AttributeValue] = {}) -> None:
        """Record the value that `read` returns whenever metrics are collected.

        It replaces an earlier gauge of that name with these attributes.
        """
        series = _series(name, attributes)
        found = self._instruments.get(series)
        if isinstance(found, Gauge):
            found.read = read
        else:
            self._instruments[series] = self.tracing.metrics.gauge(self, name, read, attributes)

    def publishes(self, attributes: Mapping[str, AttributeValue]) -> Publishes:
        """Return the metrics of a published message.

        Args:
            attributes: The attributes of its PRODUCER span.
        """

        def sent(error: str) -> Counter:
            failed = {semconv.ERROR_TYPE: error} if error else {}
            return self.counter(semconv.MESSAGING_CLIENT_SENT_MESSAGES, {**attributes, **failed})

        return Publishes(self.durations(semconv.MESSAGING_CLIENT_OPERATION_DURATION, attributes), sent)


def _series(name: str, attributes: Mapping[str, AttributeValue]) -> tuple[str, str]:
    return name, repr(sorted(semconv.metric_attributes(name, attributes).items()))


class Tracing:
    """The tracing of a process: one sampler, one queue to the exporter, and one `ServiceTracer` per service name.

    Without an endpoint, `in_memory` and span processors, nothing is recorded, and the trace context of a message is
    passed on.

    Args:
        sampler: The sampler; `parentbased_always_on` by default.
        in_memory: Whether to keep ended spans for `finished`.
        endpoint: The OTLP receiver; None if spans are not exported.
        batching: The batches in which spans are exported.
        resource: Resource attributes of all services.
        consumer_parent_mode: The relation of CONSUMER spans to the span that published their event. The default is a
            parent and a link: the conventions ask for a link, and the graph of Jaeger follows parents only.
        metrics: The metrics of the process; by default, metrics that are not exported.
        limits: The limits of each span; those of the specification by default.
        service_name: The service of spans that are started outside any actor.
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
        limits: SpanLimits | None = None,
        service_name: str = DEFAULT_SERVICE,
    ) -> None:
        if sampler is None:
            sampler = Sampling.from_env({})
        sampling = sampler if isinstance(sampler, Sampling) else Sampling.by(sampler)
        self.recorder = Recorder(sampling, in_memory=in_memory, limits=limits)
        self._service_name = service_name
        self.consumer_parent_mode: ParentMode = consumer_parent_mode
        self.metrics = metrics or Metrics()
        self._resource = dict(resource or {})
        self._instance = str(uuid.uuid4())
        self._services: dict[str, ServiceTracer] = {}
        self._processors: list[SpanProcessor] = []
        """The span processors that `shutdown` shuts down."""
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
        """Return the tracing that the standard variables configure.

        They are `OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER`, `OTEL_EXPORTER_OTLP_*`, `OTEL_TRACES_SAMPLER`,
        `OTEL_TRACES_SAMPLER_ARG`, `OTEL_BSP_*`, the limits of attributes and spans, `OTEL_SERVICE_NAME` for spans outside any
        actor, `OTEL_RESOURCE_ATTRIBUTES`, and those of `Metrics.from_env`. One warning names the other standard variables.
        Exporters other than `otlp`, for example `console`, are those of the SDK, each behind a batch processor of its
        own.

        Args:
            env: The variables; those of the process by default.
            in_memory: Whether to keep ended spans for `finished`.
            consumer_parent_mode: The relation of CONSUMER spans to the span that published their event.
        """
        env = os.environ if env is None else env
        variables = Variables(env)
        off = settings.disabled(variables)
        wanted = [] if off else settings.exporters(variables, "traces")
        tracing = cls(
            sampler=Sampling.from_env(env),
            in_memory=in_memory,
            endpoint=settings.endpoint(variables, "traces") if "otlp" in wanted else None,
            batching=settings.batching(variables),
            consumer_parent_mode=consumer_parent_mode,
            resource=dict(settings.pairs(env.get("OTEL_RESOURCE_ATTRIBUTES", ""))),
            metrics=Metrics.from_env(variables),
            limits=settings.span_limits(variables),
            service_name=env.get("OTEL_SERVICE_NAME", "").strip() or DEFAULT_SERVICE,
        )
        if not off:
            variables.warn_of_ignored()
        for name in wanted:
            if name != "otlp":
                tracing._add_exporter(name)
        return tracing

    def service(self, name: str | None = None, *, version: str = "", namespace: str = "") -> ServiceTracer:
        """Return the tracer of a service; the same object for the same name.

        Args:
            name: The service name; by default that of spans outside any actor.
            version: The service version, used on the first call for a name.
            namespace: The service namespace, used on the first call for a name.
        """
        name = name or self._service_name
        found = self._services.get(name)
        if found is None:
            resource: dict[str, AttributeValue] = {
                semconv.TELEMETRY_SDK_LANGUAGE: "python",
                semconv.TELEMETRY_SDK_NAME: "actorloom",
                semconv.TELEMETRY_SDK_VERSION: VERSION,
                semconv.SERVICE_INSTANCE_ID: self._instance,
                semconv.HOST_NAME: socket.gethostname(),
                semconv.IP: _address(),
                **({semconv.SERVICE_VERSION: version} if version else {}),
                **({semconv.SERVICE_NAMESPACE: namespace} if namespace else {}),
                **self._resource,
                semconv.SERVICE_NAME: name,
            }
            found = self._services[name] = ServiceTracer(self, name, resource)
        return found

    @property
    def records(self) -> bool:
        """Whether spans may be recorded."""
        return self.recorder.sampling.root is not SamplingDecision.PROPAGATE

    def finished(self) -> list[SpanRecord]:
        """Return the spans that have ended so far, oldest first. The list is empty without `in_memory`."""
        return [record_of(span) for span in tuple(self.recorder.memory or ())]

    def install(self, *, scraped: bool = False) -> None:
        """Implement the OpenTelemetry API with this tracing and its metrics; the last one installed is used.

        User spans are then lean spans and nest in those of the runtime. If nothing records spans, or nothing takes
        metrics, that part of the API keeps its provider.

        Args:
            scraped: Whether the process serves its metrics on a port.
        """
        install(self)
        self.metrics.install(self.service(), scraped=scraped)

    def flush(self, timeout: float = 5.0) -> bool:
        """Export all spans that have ended, and the metrics. Blocks, so call it in a thread.

        Args:
            timeout: The longest time in seconds for each exporter.

        Returns:
            False if not all spans were exported.
        """
        self.metrics.flush(timeout)
        flushed = [processor.force_flush(int(timeout * 1000)) for processor in self.recorder.processors]
        return all([*flushed, self.exporter is None or self.exporter.flush(timeout)])

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Export all spans and metrics, then stop the background threads. Blocks, so call it in a thread.

        Args:
            timeout: The longest time in seconds for each exporter.

        Returns:
            False if spans were lost.
        """
        for processor in self._processors:
            processor.shutdown()
        self.metrics.shutdown(timeout)
        return self.exporter is None or self.exporter.shutdown(timeout)

    def add_span_processor(self, processor: "SpanProcessor", *, owned: bool = True) -> None:
        """Call an SDK span processor for every span, in the thread that ends it.

        Each span is converted to the SDK's form for it, which is slower than the export by OTLP.

        Args:
            processor: The processor.
            owned: Whether `shutdown` shuts it down.
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
        logger.warning("unknown exporter OTEL_TRACES_EXPORTER=%s is ignored", name)
