"""The metric exporter: a background thread that sends all metrics to an OTLP receiver at an interval."""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.telemetry.export.settings import Endpoint
from runtime.telemetry.export.transport import Transport

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData

logger = logging.getLogger("actorloom.telemetry")


class MetricExporter:
    """Exports metrics until `shutdown`.

    One warning is logged when the receiver becomes unavailable, and one when it recovers. No metrics are kept for
    another attempt, since sums and histograms are cumulative.

    Args:
        collect: A function that returns all metrics. The background thread calls it.
        endpoint: The receiver.
        interval: Seconds between exports.
    """

    def __init__(self, collect: "Callable[[], MetricsData]", endpoint: Endpoint, interval: float) -> None:
        self._collect = collect
        self._endpoint = endpoint
        self._interval = interval
        self._transport = Transport(endpoint)
        self._sending = threading.Lock()
        self._stop = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="actorloom-metrics", daemon=True)
        self._thread.start()

    def send(self, timeout: float) -> bool:
        """Export the metrics once, within about `timeout` seconds, and return whether the receiver accepted them."""
        from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics

        data = self._collect()
        if not data.resource_metrics:
            return True
        if not self._sending.acquire(timeout=timeout):
            return False
        try:
            result = self._transport.post(encode_metrics(data).SerializeToString(), timeout)
        finally:
            self._sending.release()
        if result.error and not self._failing:
            logger.warning("cannot export metrics to %s: %s", self._endpoint.url, result.error)
        elif self._failing and not result.error:
            logger.warning("export of metrics to %s works again", self._endpoint.url)
        self._failing = bool(result.error)
        return not self._failing

    def shutdown(self, timeout: float) -> bool:
        """Export a last time, and end the background thread. Later calls do nothing."""
        if self._stop.is_set():
            return True
        self._stop.set()
        sent = self.send(timeout)
        self._thread.join(timeout)
        # A thread that is still sending ends with the process, and its socket with it.
        if not self._thread.is_alive():
            self._transport.close()
        return sent

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.send(self._endpoint.timeout)
