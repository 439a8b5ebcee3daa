"""Every standard variable of OpenTelemetry is heeded, or one warning names it. No value of one ends the program."""

import logging
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk import environment_variables

from runtime.telemetry import LeanSpan, Metrics, Tracing
from runtime.telemetry.export import settings
from runtime.telemetry.export.settings import SHORTEST_DELAY, Batching
from runtime.telemetry.export.variables import IGNORED, LONGEST
from runtime.telemetry.spans.limits import SpanLimits
from tests.support.receiver import receiving

STANDARD = {name for name in vars(environment_variables) if name.startswith("OTEL_")} | {
    "OTEL_PROPAGATORS", "OTEL_LOGS_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_TRACES_EXPORTER", "OTEL_ENTITIES",
}  # fmt: skip
"""The variables that the SDK knows, and those of the API."""
HEEDED = {
    "OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG", "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT", "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_EVENT_COUNT_LIMIT", "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    *(
        f"OTEL_EXPORTER_OTLP_{signal}{part}"
        for signal in ("", "TRACES_", "METRICS_")
        for part in (
            "ENDPOINT", "HEADERS", "TIMEOUT", "PROTOCOL", "COMPRESSION", "CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY",
        )
    ),
}  # fmt: skip
OF_OTHERS = ("OTEL_PYTHON_", "OTEL_EXPORTER_ZIPKIN_")
"""The beginnings of variables that the API, the SDK or an exporter of the SDK reads itself."""

NUMBERS = [
    "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
    "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT", "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT", "OTEL_SPAN_LINK_COUNT_LIMIT", "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
]  # fmt: skip
URL = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def read(env: dict[str, str]) -> tuple[Any, ...]:
    """Return everything that the variables configure, apart from the sampler and the exporters."""
    return (
        settings.endpoint(env, "traces"),
        settings.endpoint(env, "metrics"),
        settings.batching(env),
        settings.interval(env),
        settings.span_limits(env),
    )


def test_every_standard_variable_is_heeded_or_named(caplog: pytest.LogCaptureFixture) -> None:
    named = {name for name in STANDARD if not name.startswith(OF_OTHERS)} - HEEDED
    env = dict.fromkeys(named | set(IGNORED), "b3")
    assert Tracing.from_env(env).exporter is None
    [warning] = warnings(caplog)
    assert all(name in warning for name in env)
    caplog.clear()
    Tracing.from_env({"OTEL_PROPAGATORS": "baggage, tracecontext", "OTEL_LOGS_EXPORTER": "none"})
    assert warnings(caplog) == []


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e400", "-1", "ten", "1,5"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_value_that_is_no_number_is_ignored_with_a_warning(
    name: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert read({**URL, name: value}) == read(URL)
    caplog.clear()
    Tracing.from_env({name: value, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}).shutdown(1)
    [warning] = warnings(caplog)
    assert f"{name}={value} " in warning


@pytest.mark.parametrize("name", NUMBERS)
def test_huge_and_empty_numbers_are_usable(name: str, caplog: pytest.LogCaptureFixture) -> None:
    traces, metrics, batching, interval, _ = read({**URL, name: "9" * 30})
    assert max(traces.timeout, metrics.timeout, batching.delay, interval) <= LONGEST
    assert read({**URL, name: " "}) == read(URL)
    assert warnings(caplog) == []


def test_zero_is_no_busy_loop_and_no_limit() -> None:
    zero = {**URL, "OTEL_BSP_SCHEDULE_DELAY": "0", "OTEL_METRIC_EXPORT_INTERVAL": "0"}
    _, _, batching, interval, _ = read(zero)
    assert (batching.delay, interval) == (SHORTEST_DELAY, SHORTEST_DELAY)
    traces, metrics, *_ = read({**URL, "OTEL_EXPORTER_OTLP_TIMEOUT": "0"})
    assert (traces.timeout, metrics.timeout) == (30.0, 30.0)  # those of the batch processor and the metric reader
    traces, *_ = read({**URL, "OTEL_EXPORTER_OTLP_TIMEOUT": "0", "OTEL_BSP_EXPORT_TIMEOUT": "0"})
    assert traces.timeout == LONGEST
    assert settings.batching({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}) == Batching()
    assert settings.batching({"OTEL_BSP_MAX_QUEUE_SIZE": "8"}) == Batching(limit=8, size=8)


def test_spans_and_metrics_are_exported_without_a_timeout_and_with_a_login_in_the_url() -> None:
    with receiving() as receiver:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url.replace("://", "://ann:p%40ss@"),
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0",
            "OTEL_BSP_SCHEDULE_DELAY": "0",
            "OTEL_SERVICE_NAME": "shell",
        }
        tracing = Tracing.from_env(env)
        tracing.service().template("s").start().end()
        assert receiver.wait(lambda: receiver.names() == ["s"])
        assert tracing.shutdown(10)
        assert receiver.requests[0][1]["authorization"] == "Basic YW5uOnBAc3M="
        assert b"shell" in receiver.taken[0]


def test_a_header_takes_precedence_over_the_login_of_the_url() -> None:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://ann@collector:1/x",
        "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20t",
    }
    endpoint = settings.endpoint(env, "traces")
    assert endpoint is not None
    assert (endpoint.url, endpoint.headers) == ("https://collector:1/x/v1/traces", {"authorization": "Bearer t"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:port"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:99999"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "grpc://ann:secret@collector:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x=a%0d%0ab"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=c"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere.pem"),
    ],
)
def test_what_cannot_be_used_is_named_and_ends_no_program(
    name: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    tracing = Tracing.from_env({**URL, name: value})
    assert tracing.exporter is None and Metrics.from_env({**URL, name: value}).flush(1)
    found = warnings(caplog)
    assert any(name in warning for warning in found) and all("secret" not in warning for warning in found)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"OTEL_ATTRIBUTE_COUNT_LIMIT": "2"}, SpanLimits(attributes=2, event_attributes=2, link_attributes=2)),
        (
            {"OTEL_ATTRIBUTE_COUNT_LIMIT": "2", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "3"},
            SpanLimits(attributes=3, event_attributes=2, link_attributes=2),
        ),
        ({"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "4"}, SpanLimits(value_length=4)),
        ({"OTEL_SPAN_EVENT_COUNT_LIMIT": "0", "OTEL_SPAN_LINK_COUNT_LIMIT": "1"}, SpanLimits(events=0, links=1)),
    ],
)
def test_the_limits_of_spans_are_read(env: dict[str, str], expected: SpanLimits) -> None:
    assert settings.span_limits(env) == expected


def test_a_span_keeps_its_limits() -> None:
    limits = SpanLimits(attributes=2, events=1, links=1, event_attributes=1, link_attributes=1, value_length=3)
    tracing = Tracing(in_memory=True, limits=limits)
    tracing.install()
    span = trace.get_tracer("user").start_span("s", attributes={"a": "12345", "b": 1, "c": 2})
    assert isinstance(span, LeanSpan)
    span.set_attributes({"b": ["123456", "1"], "d": 1})
    for _ in range(2):
        span.add_event("e", {"x": "12345", "y": 1})
        span.add_link(span.get_span_context(), {"x": 1, "y": 2})
    assert span.attributes == {"a": "123", "b": ("123", "1")}
    details = span.detail()
    assert [attributes for *_, attributes in details.events] == [{"x": "123"}]
    assert [dict(link.attributes or {}) for link in details.links] == [{"x": 1}]
    assert (details.dropped_attributes, details.dropped_events, details.dropped_links) == (2, 1, 1)
