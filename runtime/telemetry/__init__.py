"""Spans, metrics and log lines: OpenTelemetry for users and collectors, at little cost on the path of a message.

Code outside this room may use the names below and four modules: `semconv` (names of attributes and metrics), `tree`
(a trace as text), `metrics.prometheus` (the text of `/metrics`) and `bursts` (like log lines as one). Everything else is
internal.

A process creates one `Tracing`, each actor type a `ServiceTracer` from it, and each operation a `Template` from that:

    tracing = Tracing.from_env()  # in tests: Tracing(in_memory=True), and then tracing.finished()
    tracing.install()  # spans of user code are lean too, and nest in those of the runtime
    service = tracing.service("orders", version="1.2.0")
    method = semconv.rpc_attributes("orders/get_order", ("127.0.0.1", 4222))
    template = service.template("orders/get_order", SpanKind.SERVER, method)

A handler's span takes its parent from the header block of the message, and is current while the handler runs:

    span = template.receive(block)  # block: bytes or None
    token = attach(span, block)  # the baggage of the block becomes part of the context
    try:
        ...  # run the handler
        span.add_event("lane.wait")  # any method of an OpenTelemetry span
    finally:
        detach(token)
    reply_lines = response_line(span)  # b"traceresponse: 00-...-01\\r\\n", or b""
    finish(span)  # on failure: finish(span, 409, "OutOfStock", "none left")

An outgoing message carries a span of its own:

    span = client_template.child()  # under the current span; start(parent) takes another parent, or None
    lines = inject(span)  # b"traceparent: ...\\r\\n", to be joined into a header block

Instruments are created once, and recorded into for each message:

    calls = service.durations(semconv.RPC_SERVER_CALL_DURATION, method)
    calls.record(nanoseconds)  # on failure: calls.record_error(nanoseconds, 409, "OutOfStock")

`Tracing.flush` and `Tracing.shutdown` block; a coroutine calls them by `asyncio.to_thread`.

`receive`, `start` and `child` return a span in every case. If it is not recorded, it still passes on the trace
context, so callers need no test for None.
"""

from runtime.telemetry.logs import setup_logging
from runtime.telemetry.memory import SpanRecord
from runtime.telemetry.metrics.instruments import Counter, Durations
from runtime.telemetry.metrics.publishes import Publishes
from runtime.telemetry.metrics.registry import Metrics
from runtime.telemetry.spans.context import add_link, attach, attach_context, attached, current, detach, get_context
from runtime.telemetry.spans.injection import baggage_line, inject, inject_pairs, response_block, response_line
from runtime.telemetry.spans.lean_span import LeanSpan
from runtime.telemetry.spans.outcome import finish
from runtime.telemetry.spans.propagated import NO_SPAN, PropagatedSpan, UnsampledSpan
from runtime.telemetry.spans.template import ParentMode, Template
from runtime.telemetry.tracer import ServiceTracer, Tracing

__all__ = [
    "NO_SPAN",
    "Counter",
    "Durations",
    "LeanSpan",
    "Metrics",
    "ParentMode",
    "PropagatedSpan",
    "Publishes",
    "ServiceTracer",
    "SpanRecord",
    "Template",
    "Tracing",
    "UnsampledSpan",
    "add_link",
    "attach",
    "attach_context",
    "attached",
    "baggage_line",
    "current",
    "detach",
    "finish",
    "get_context",
    "inject",
    "inject_pairs",
    "response_block",
    "response_line",
    "setup_logging",
]
