"""The metrics of a process: the runtime's own instruments and the user's, collected together, exported and shown.

The user's come by the OpenTelemetry metrics API and the SDK's `MeterProvider`; ours (`instruments.py`) are turned into
SDK points when they are read. Sums and histograms are cumulative.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from opentelemetry import metrics as api
from opentelemetry.util.types import AttributeValue

from runtime.telemetry import semconv
from runtime.telemetry.export import settings
from runtime.telemetry.export.settings import Endpoint
from runtime.telemetry.export.transport import Transport
from runtime.telemetry.metrics.instruments import BOUNDS, Counter, Durations, Instrument
from runtime.telemetry.spans.scope import Service
from runtime.telemetry.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, MetricsData

logger = logging.getLogger("actorloom.telemetry")
_DESCRIPTIONS = {
    semconv.RPC_CLIENT_CALL_DURATION: "Duration of outbound queries and commands.",
    semconv.RPC_SERVER_CALL_DURATION: "Duration of inbound queries and commands.",
    semconv.MESSAGING_CLIENT_OPERATION_DURATION: "Duration of publishing an event.",
    semconv.MESSAGING_PROCESS_DURATION: "Duration of handling an event.",
}
_Series = TypeVar("_Series", bound=Instrument)


class Metrics:
    """One per process. Make instruments once per handler, then record into them."""

    def __init__(self, *, endpoint: Endpoint | None = None, interval: float = 60.0) -> None:
        self._endpoint = endpoint
        self._interval = interval
        self._instruments: list[Instrument] = []
        self._reader: InMemoryMetricReader | None = None
        self._export: MetricExport | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> "Metrics":
        """Read `OTEL_SDK_DISABLED`, `OTEL_METRICS_EXPORTER`, `OTEL_EXPORTER_OTLP_*`, `OTEL_METRIC_EXPORT_INTERVAL` (ms)."""
        env = os.environ if env is None else env
        wanted = not settings.disabled(env) and "otlp" in settings.exporters(env, "metrics")
        return cls(
            endpoint=settings.endpoint(env, "metrics") if wanted else None,
            interval=settings.number(env.get("OTEL_METRIC_EXPORT_INTERVAL", ""), 60_000) / 1000,
        )

    def durations(self, service: Service, name: str, attributes: Mapping[str, AttributeValue]) -> Durations:
        """A histogram in seconds, of a name from `semconv`."""
        return self._add(Durations(service, name, "s", _DESCRIPTIONS.get(name, ""), attributes))

    def counter(
        self, service: Service, name: str, attributes: Mapping[str, AttributeValue], unit: str = "{message}"
    ) -> Counter:
        """A counter, of a name from `semconv`."""
        return self._add(Counter(service, name, unit, _DESCRIPTIONS.get(name, ""), attributes))

    def install(self, service: Service) -> None:
        """Collect the user's metrics too, under `service`, and start to export where an endpoint is configured.

        A meter provider that the user has set already stays, and exports its own.
        """
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.resources import Resource

        if self._reader is None and not isinstance(api.get_meter_provider(), MeterProvider):
            self._reader = InMemoryMetricReader()
            api.set_meter_provider(MeterProvider([self._reader], Resource(service.resource), shutdown_on_exit=False))
        if self._endpoint is not None and self._export is None:
            self._export = MetricExport(self, self._endpoint, self._interval)

    def collect(self) -> "MetricsData":
        """All series as they stand, in the SDK's form. From any thread."""
        from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        scope = InstrumentationScope(semconv.SCOPE, VERSION)
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
            scopes.setdefault(Resource(service.resource), []).append(ScopeMetrics(scope, metrics, ""))
        users = self._reader.get_metrics_data() if self._reader is not None else None
        # A resource may be there once only: the SDK's encoder keeps the last of equal ones.
        for one in users.resource_metrics if users is not None else ():
            scopes.setdefault(one.resource, []).extend(one.scope_metrics)
        return MetricsData([ResourceMetrics(resource, found, "") for resource, found in scopes.items()])

    def flush(self, timeout: float = 5.0) -> bool:
        """Export now, within about `timeout` seconds; blocks. True where nothing is to be exported, or all was."""
        return self._export is None or self._export.send(timeout)

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Export a last time, and end the background thread. Blocks for about `timeout` seconds at most."""
        return self._export is None or self._export.shutdown(timeout)

    def _add(self, instrument: _Series) -> _Series:
        self._instruments.append(instrument)
        return instrument


class MetricExport:
    """The background thread that exports all metrics at an interval. One warning when that fails, one when it is back."""

    def __init__(self, metrics: Metrics, endpoint: Endpoint, interval: float) -> None:
        self._metrics = metrics
        self._endpoint = endpoint
        self._interval = interval
        self._transport = Transport(endpoint)
        self._sending = threading.Lock()
        self._stop = threading.Event()
        self._down = False
        self._thread = threading.Thread(target=self._run, name="actorloom-metrics", daemon=True)
        self._thread.start()

    def send(self, timeout: float) -> bool:
        """Export once; False where the receiver did not take it."""
        from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics

        data = self._metrics.collect()
        if not data.resource_metrics:
            return True
        if not self._sending.acquire(timeout=timeout):
            return False
        try:
            answer = self._transport.post(encode_metrics(data).SerializeToString(), timeout)
        finally:
            self._sending.release()
        if answer.error and not self._down:
            logger.warning("metrics are not exported to %s: %s", self._endpoint.url, answer.error)
        elif self._down and not answer.error:
            logger.warning("metrics are exported to %s again", self._endpoint.url)
        self._down = bool(answer.error)
        return not self._down

    def shutdown(self, timeout: float) -> bool:
        """Export a last time and end the thread."""
        if self._stop.is_set():
            return True
        self._stop.set()
        sent = self.send(timeout)
        self._thread.join(timeout)
        # A thread that is still in a post ends with the process, and its socket too.
        if not self._thread.is_alive():
            self._transport.close()
        return sent

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.send(self._endpoint.timeout)


def _metric(series: list[Instrument], now: int) -> "Metric":
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
    sums = [NumberDataPoint(one.attributes, one.started, now, one.value) for one in series if isinstance(one, Counter)]
    return Metric(first.name, first.description, first.unit, Sum(sums, cumulative, True))
