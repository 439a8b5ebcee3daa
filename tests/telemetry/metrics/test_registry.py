"""Metrics: recorded values are exported and shown, the user's beside those of the runtime."""

import math
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import metrics as api
from opentelemetry.metrics import _internal
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.util._once import Once

from runtime.telemetry import Metrics, Tracing, semconv
from runtime.telemetry.metrics import prometheus
from runtime.telemetry.metrics.instruments import BOUNDS
from runtime.telemetry.spans.scope import Service
from tests.support.receiver import receiving


@pytest.fixture
def service() -> Service:
    return Tracing().service("orders", version="1")


@pytest.fixture(autouse=True)
def _no_meter_provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Unset the API's provider for each test, since it can be set only once in a process."""
    monkeypatch.setattr(_internal, "_METER_PROVIDER", None)
    monkeypatch.setattr(_internal, "_METER_PROVIDER_SET_ONCE", Once())
    yield
    provider: Any = api.get_meter_provider()
    if hasattr(provider, "shutdown"):
        provider.shutdown()


@given(st.lists(st.integers(0, 20 * 10**9)))
def test_a_histogram_counts_each_duration_once_in_its_bucket(recorded: list[int]) -> None:
    metrics = Metrics()
    durations = metrics.durations(Tracing().service("a"), semconv.RPC_SERVER_CALL_DURATION, {})
    for nanoseconds in recorded:
        durations.record(nanoseconds)
    seconds = [nanoseconds / 1e9 for nanoseconds in recorded]
    point: Any = metrics.collect().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
    expected = [0] * (len(BOUNDS) + 1)
    for duration in seconds:
        expected[bisect_left(BOUNDS, duration)] += 1
    assert list(point.bucket_counts) == expected
    assert sum(duration <= 0.0001 for duration in seconds) == point.bucket_counts[0]
    assert point.count == len(seconds)
    assert math.isclose(point.sum, sum(seconds), abs_tol=1e-9)
    assert (point.min, point.max) == ((min(seconds), max(seconds)) if seconds else (0.0, 0.0))


def test_a_clock_that_is_set_back_does_not_decrease_a_sum() -> None:
    durations = Metrics().durations(Tracing().service("a"), semconv.RPC_SERVER_CALL_DURATION, {})
    for nanoseconds in (5, -7, 0):
        durations.record(nanoseconds)
    assert (durations.sum, durations.smallest, sum(durations.counts)) == (5e-9, 0.0, 3)


def test_each_error_type_has_a_series_up_to_a_limit(service: Service) -> None:
    metrics = Metrics()
    calls = metrics.durations(service, semconv.RPC_SERVER_CALL_DURATION, {"rpc.method": "orders/get"})
    calls.record(100_000_000)
    calls.record_error(200_000_000, 409, "OutOfStock")
    calls.record_error(200_000_000, 409, "OutOfStock")
    for index in range(200):
        calls.record_error(300_000_000, None, f"Error{index}")
    points: Any = metrics.collect().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    series = {point.attributes.get("error.type"): point for point in points}
    assert series[None].count == 1
    assert series["409"].count == 2
    assert series["409"].attributes["rpc.response.status_code"] == "409"
    assert len(points) <= 52
    assert sum(point.count for point in points) == 203


def test_the_prometheus_text_has_metrics_of_the_runtime_and_of_the_user(service: Service) -> None:
    metrics = Metrics()
    metrics.install(service, scraped=True)
    metrics.durations(service, semconv.RPC_SERVER_CALL_DURATION, {"rpc.method": 'a"b\\c\n'}).record(2_000_000)
    metrics.counter(service, "actorloom.client.retries", {}).value += 3
    meter = api.get_meter("shop")
    meter.create_counter("shop.orders.created", description="Orders\ncreated.").add(2, {"kind": "web"})
    meter.create_up_down_counter("shop.open").add(5)
    text = prometheus.render(metrics.collect())
    lines = text.splitlines()
    labels = 'service_name="orders",rpc_method="a\\"b\\\\c\\n"'
    assert "# TYPE rpc_server_call_duration_seconds histogram" in lines
    assert f'rpc_server_call_duration_seconds_bucket{{{labels},le="0.001"}} 0' in lines
    assert f'rpc_server_call_duration_seconds_bucket{{{labels},le="0.0025"}} 1' in lines
    assert f'rpc_server_call_duration_seconds_bucket{{{labels},le="+Inf"}} 1' in lines
    assert f"rpc_server_call_duration_seconds_sum{{{labels}}} 0.002" in lines
    assert 'actorloom_client_retries_total{service_name="orders"} 3' in lines
    assert "# HELP shop_orders_created_total Orders\\ncreated." in lines
    assert 'shop_orders_created_total{service_name="orders",kind="web"} 2' in lines
    assert "# TYPE shop_open gauge" in lines
    assert text.endswith("\n")


def test_a_family_has_one_type_line_for_all_services() -> None:
    metrics = Metrics()
    tracing = Tracing()
    for name in ("orders", "payment"):
        metrics.counter(tracing.service(name), "actorloom.client.retries", {}).value += 1
    text = prometheus.render(metrics.collect())
    assert text.count("# TYPE") == 1
    assert text.count("service_name=") == 2


def test_metrics_are_exported_at_the_interval_and_at_shutdown(service: Service) -> None:
    with receiving() as receiver:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_METRIC_EXPORT_INTERVAL": "20"}
        metrics = Metrics.from_env(env)
        calls = metrics.durations(service, semconv.RPC_CLIENT_CALL_DURATION, {"rpc.method": "x"})
        calls.record(20_000_000)
        metrics.install(service, scraped=True)
        api.get_meter("shop").create_counter("shop.orders").add(1)
        assert receiver.wait(lambda: len(receiver.taken) >= 2)
        calls.record(20_000_000)
        assert metrics.flush(10)
        assert metrics.shutdown(10)
        assert metrics.shutdown(10)
    assert {path for path, _ in receiver.requests} == {"/v1/metrics"}
    last = ExportMetricsServiceRequest.FromString(receiver.taken[-1])
    named = {
        metric.name: metric
        for resource in last.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert set(named) == {"rpc.client.call.duration", "shop.orders"}
    assert named["rpc.client.call.duration"].histogram.data_points[0].count == 2
    assert named["rpc.client.call.duration"].unit == "s"


def test_an_unavailable_receiver_causes_one_warning(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with receiving() as receiver:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_METRIC_EXPORT_INTERVAL": "600000"}
        metrics = Metrics.from_env(env)
        metrics.counter(service, "actorloom.client.retries", {}).value += 1
        metrics.install(service, scraped=True)
        receiver.answers = [(503, {}), (503, {})]
        assert not metrics.flush(10)
        assert not metrics.flush(10)
        assert metrics.flush(10)
        metrics.shutdown(10)
    failure, recovery = caplog.messages
    assert failure.startswith("cannot export metrics to ")
    assert recovery.startswith("export of metrics to ") and recovery.endswith(" works again")


def test_a_meter_provider_that_the_user_set_stays(service: Service) -> None:
    from opentelemetry.sdk.metrics import MeterProvider

    own = MeterProvider(shutdown_on_exit=False)
    api.set_meter_provider(own)
    metrics = Metrics()
    metrics.install(service, scraped=True)
    assert api.get_meter_provider() is own
    assert list(metrics.collect().resource_metrics) == []
