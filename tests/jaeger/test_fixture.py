"""A test of the Jaeger fixture: it accepts OTLP over HTTP and returns the spans that it received."""

import secrets
import time
import urllib.request

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.jaeger.conftest import Jaeger

pytestmark = pytest.mark.jaeger


def test_handmade_spans_become_one_trace_and_a_dependency(jaeger: Jaeger) -> None:
    trace, caller, callee = secrets.token_bytes(16), secrets.token_bytes(8), secrets.token_bytes(8)
    send(jaeger, "by-hand-caller", Span.SPAN_KIND_CLIENT, trace, caller, b"")
    send(jaeger, "by-hand-callee", Span.SPAN_KIND_SERVER, trace, callee, caller)
    deadline = time.monotonic() + 10
    while len((jaeger.trace(trace.hex()) or {"spans": ()})["spans"]) < 2:
        assert time.monotonic() < deadline, jaeger.trace(trace.hex())
        time.sleep(0.02)
    assert jaeger.services() >= {"by-hand-caller", "by-hand-callee"}
    assert ("by-hand-caller", "by-hand-callee") in jaeger.dependencies()
    assert jaeger.trace(secrets.token_hex(16)) is None


def send(jaeger: Jaeger, service: str, kind: Span.SpanKind, trace: bytes, span: bytes, parent: bytes) -> None:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = service
    now = time.time_ns()
    group.scope_spans.add().spans.add(
        trace_id=trace, span_id=span, parent_span_id=parent, name=service, kind=kind,
        start_time_unix_nano=now - 1_000_000, end_time_unix_nano=now,
    )  # fmt: skip
    post = urllib.request.Request(
        f"{jaeger.otlp_url}/v1/traces", request.SerializeToString(), {"Content-Type": "application/x-protobuf"}
    )
    with urllib.request.urlopen(post, timeout=10) as response:
        assert response.status == 200
