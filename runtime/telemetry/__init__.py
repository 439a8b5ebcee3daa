"""Tracing, metrics and logs: OpenTelemetry to users and collectors, a few slots and one append to the event loop.

    tracing = Tracing.from_env()                  # one per process; Tracing(in_memory=True) in tests, then .finished()
    tracing.install()                             # user spans become lean spans, and nest in ours
    service = tracing.service("orders", version="1.2.0")
    template = service.template("orders/get_order", SpanKind.SERVER, semconv.rpc_attributes("orders/get_order"))

    span = template.receive(block)                # SERVER, CONSUMER: parent from the header block (bytes or None)
    token = attach(span, block)                   # get_current_span() is `span` in this task; baggage from the block
    ...                                           # run the handler
    detach(token)
    reply_headers = response_line(span)           # b"traceresponse: 00-...-01\\r\\n", or b""
    finish(span)                                  # ended well; finish(span, 409, "OutOfStock", "text") where not

    span = client_template.child()                # CLIENT, PRODUCER, INTERNAL: under the current span
    span = client_template.start(parent)          # under a given span, or None for a root
    lines = inject(span)                          # b"traceparent: ...\\r\\n" and so on, to join into a block
    pairs = inject_pairs(span)                    # the same as pairs, for headers.encode
    span.add_event("lane.wait")                   # cheap; also set_attribute, set_status, record_exception, ...

    metrics = Metrics.from_env(); metrics.install(service)
    calls = metrics.durations(service, semconv.RPC_SERVER_CALL_DURATION, semconv.rpc_attributes("orders/get_order"))
    calls.record(nanoseconds)                     # or calls.record_error(nanoseconds, 409, "OutOfStock")
    retries = metrics.counter(service, "actorloom.client.retries", {}); retries.value += 1
    prometheus.render(metrics.collect())          # the text of /metrics

    tracing.flush(5), tracing.shutdown(5)         # and the same of metrics: they block, so use asyncio.to_thread

`receive`, `start` and `child` take `attributes` that vary (a dict that the span then owns). Whatever is not recorded
(unsampled, or nothing configured) gets a span object that still carries the context on: never test for None.
"""

from runtime.telemetry.logs import setup_logging
from runtime.telemetry.memory import SpanRecord
from runtime.telemetry.metrics.instruments import Counter, Durations
from runtime.telemetry.metrics.registry import Metrics
from runtime.telemetry.spans.context import attach, attach_context, attached, current, detach, get_context
from runtime.telemetry.spans.injection import inject, inject_pairs, response_line
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
    "ServiceTracer",
    "SpanRecord",
    "Template",
    "Tracing",
    "UnsampledSpan",
    "attach",
    "attach_context",
    "attached",
    "current",
    "detach",
    "finish",
    "get_context",
    "inject",
    "inject_pairs",
    "response_line",
    "setup_logging",
]
