"""The registry of a process's metrics: the runtime's instruments and the user's, collected together.

User code creates instruments by the OpenTelemetry metrics API, which the SDK's `MeterProvider` implements. The
runtime's instruments (`instruments.py`) are converted to SDK points when metrics are collected. Sums and histograms
are cumulative.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from opentelemetry import metrics as api
from opentelemetry.util.types import AttributeValue

from runtime.telemetry import semconv
from runtime.telemetry.export import settings
from runtime.telemetry.export.settings import Endpoint
from runtime.telemetry.metrics.exporter import MetricExporter
from runtime.telemetry.metrics.instruments import BOUNDS, Counter, Durations, Gauge, Instrument
from runtime.telemetry.spans.scope import Service
from runtime.telemetry.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, MetricsData

_Series = TypeVar("_Series", bound=Instrument)


class Metrics:
    """The metrics of a process. Create an instrument once per handler, and record into it for each message.

    Args:
        endpoint: The OTLP receiver; None if metrics are not exported.
        interval: Seconds between exports.
    """

    def __init__(self, *, endpoint: Endpoint | None = None, interval: float = 60.0) -> None:
        self._endpoint = endpoint
        self._interval = interval
        self._instruments: list[Instrument] = []
        self._reader: InMemoryMetricReader | None = None
        self._exporter: MetricExporter | None = None

    @classmethod
    def from_env(cls, env: settings.Env | None = None) -> "Metrics":
        """Return the metrics that the standard variables configure.

        They are `OTEL_SDK_DISABLED`, `OTEL_METRICS_EXPORTER`, `OTEL_EXPORTER_OTLP_*` and `OTEL_METRIC_EXPORT_INTERVAL`
        (milliseconds).

        Args:
            env: The variables; those of the process by default.
        """
        env = os.environ if env is None else env
        wanted = not settings.disabled(env) and "otlp" in settings.exporters(env, "metrics")
        return cls(
            endpoint=settings.endpoint(env, "metrics") if wanted else None,
            interval=settings.interval(env),
        )

    def durations(self, service: Service, name: str, attributes: Mapping[str, AttributeValue]) -> Durations:
        """Create a histogram of durations.

        Args:
            service: The service that records.
            name: The name of a metric in `semconv.METRICS`, for example `semconv.RPC_SERVER_CALL_DURATION`.
            attributes: Attributes of the series; those of a span that the metric does not have are left out.
        """
        spec = semconv.METRICS[name]
        found = semconv.metric_attributes(name, attributes)
        return self._add(Durations(service, name, spec.unit, spec.description, found))

    def counter(self, service: Service, name: str, attributes: Mapping[str, AttributeValue]) -> Counter:
        """Create a counter.

        Args:
            service: The service that counts.
            name: The name of a metric in `semconv.METRICS`.
            attributes: Attributes of the series; those of a span that the metric does not have are left out.
        """
        spec = semconv.METRICS[name]
        found = semconv.metric_attributes(name, attributes)
        return self._add(Counter(service, name, spec.unit, spec.description, found))

    def gauge(
        self,
        service: Service,
        name: str,
        read: Callable[[], float | None],
        attributes: Mapping[str, AttributeValue] = {},
    ) -> Gauge:
        """Create a gauge.

        Args:
            service: The service whose value it is.
            name: The name of a metric in `semconv.METRICS`.
            read: Returns the present value, or None if there is none. Any thread may call it.
            attributes: Attributes of the series; those of a span that the metric does not have are left out.
        """
        spec = semconv.METRICS[name]
        found = semconv.metric_attributes(name, attributes)
        return self._add(Gauge(service, name, spec.unit, spec.description, found, read))

    def install(self, service: Service, *, scraped: bool = False) -> None:
        """Collect the user's metrics too, and start the export if an endpoint is configured.

        If the user has already set a meter provider, that provider stays and exports the user's metrics itself. Without
        an endpoint and without `scraped` nothing is set, and the user's metrics go nowhere.

        Args:
            service: The service of the user's metrics.
            scraped: Whether the process serves its metrics on a port.
        """
        if self._endpoint is None and not scraped:
            return
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.resources import Resource

        from runtime.telemetry.metrics.forkable import ForkableProvider

        if self._reader is None and not isinstance(api.get_meter_provider(), MeterProvider):
            self._reader = InMemoryMetricReader()
            resource = Resource(service.resource, semconv.SCHEMA_URL)
            api.set_meter_provider(ForkableProvider([self._reader], resource, shutdown_on_exit=False))
        if self._endpoint is not None and self._exporter is None:
            self._exporter = MetricExporter(self.collect, self._endpoint, self._interval)

    def collect(self) -> "MetricsData":
        """Return the present values of all series, in the SDK's form. Any thread may call it."""
        from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        scope = InstrumentationScope(semconv.SCOPE, VERSION, semconv.SCHEMA_URL)
        now = time.time_ns()
        services: dict[Service, dict[str, list[Instrument]]] = {}
        for instrument in tuple(self._instruments):
            series = services.setdefault(instrument.service, {}).setdefault(instrument.name, [])
            series.append(instrument)
            if isinstance(instrument, Durations):
                series.extend(tuple(instrument.errors.values()))
        scopes: dict[Resource, list[ScopeMetrics]] = {}
        for service, named in services.items():
            metrics = [_metric(series, now) for series in named.values()]
            scopes.setdefault(Resource(service.resource, semconv.SCHEMA_URL), []).append(
                ScopeMetrics(scope, metrics, semconv.SCHEMA_URL)
            )
        user_data = self._reader.get_metrics_data() if self._reader is not None else None
        # Each resource may occur once only, because the SDK's encoder keeps the last of equal ones.
        for user_metrics in user_data.resource_metrics if user_data is not None else ():
            scopes.setdefault(user_metrics.resource, []).extend(user_metrics.scope_metrics)
        return MetricsData(
            [ResourceMetrics(resource, found, resource.schema_url) for resource, found in scopes.items()]
        )

    def flush(self, timeout: float = 5.0) -> bool:
        """Export now; blocks for about `timeout` seconds at most.

        Returns:
            False if the receiver did not accept the metrics; True if it did, or no export is configured.
        """
        return self._exporter is None or self._exporter.send(timeout)

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Export a last time and end the background thread; blocks for about `timeout` seconds at most.

        Returns:
            False if the receiver did not accept the metrics; True if it did, or no export is configured.
        """
        return self._exporter is None or self._exporter.shutdown(timeout)

    def _add(self, instrument: _Series) -> _Series:
        self._instruments.append(instrument)
        return instrument


def _metric(series: list[Instrument], now: int) -> "Metric":
    """Return the series of one metric of one service in the SDK's form, with `now` in Unix nanoseconds."""
    from opentelemetry.sdk.metrics import export
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        Histogram,
        HistogramDataPoint,
        Metric,
        NumberDataPoint,
        Sum,
    )

    first = series[0]
    cumulative = AggregationTemporality.CUMULATIVE
    if isinstance(first, Durations):
        points: list[HistogramDataPoint] = []
        for one in series:
            assert isinstance(one, Durations)
            counts = list(one.counts)
            points.append(
                HistogramDataPoint(
                    one.attributes, one.started, now, sum(counts), one.sum, counts, BOUNDS, one.smallest, one.largest
                )
            )
        return Metric(first.name, first.description, first.unit, Histogram(points, cumulative))
    if isinstance(first, Gauge):
        read = [(one, one.read()) for one in series if isinstance(one, Gauge)]
        values = [NumberDataPoint(one.attributes, one.started, now, value) for one, value in read if value is not None]
        return Metric(first.name, first.description, first.unit, export.Gauge(values))
    sums = [NumberDataPoint(one.attributes, one.started, now, one.value) for one in series if isinstance(one, Counter)]
    return Metric(first.name, first.description, first.unit, Sum(sums, cumulative, True))
