"""W3C trace context as it goes: header lines for the next message, and for the reply."""

from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.trace.span import Span, SpanContext

from runtime.telemetry.spans.context import current, get_context
from runtime.telemetry.spans.lean_span import LeanSpan
from runtime.telemetry.spans.propagated import NO_SPAN, PropagatedSpan

_BAGGAGE = W3CBaggagePropagator()


def inject(span: Span | None = None) -> bytes:
    """Header lines that make `span` (None: the current one) the parent at the receiver.

    They are traceparent, tracestate and baggage (of the current context), each ending in CRLF, for joining into a
    block; b"" where there is nothing to carry. Put them first in the block: there `Template.receive` is fastest.
    """
    context = get_context()
    if span is None:
        span = current()
    if span is NO_SPAN and (context is NO_SPAN or not context):
        return b""
    # An exact type first: `isinstance` of an abstract class costs more than the line itself.
    lines = b"" if span is None else span.lines() if type(span) is LeanSpan else _lines(span)
    # In most contexts there is nothing but the span.
    if len(context) > 1 and baggage.get_all(context):
        carrier: dict[str, str] = {}
        _BAGGAGE.inject(carrier, context)
        if "baggage" in carrier:
            lines += b"baggage: " + carrier["baggage"].encode() + b"\r\n"
    return lines


def inject_pairs(span: Span | None = None) -> list[tuple[str, str]]:
    """The headers of `inject` as pairs, for `headers.encode`."""
    lines = inject(span).decode().split("\r\n")[:-1]
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


def response_line(span: Span) -> bytes:
    """The `traceresponse` line for the reply to the request whose span this is; b"" where it is not recorded."""
    if type(span) is LeanSpan:
        return b"traceresponse: 00-%b-%b-01\r\n" % (span.trace, span.id)
    return b"" if isinstance(span, PropagatedSpan) else _line(b"traceresponse", span.get_span_context())


def _lines(span: Span) -> bytes:
    if isinstance(span, PropagatedSpan):
        return span.lines()
    context = span.get_span_context()
    state = context.trace_state.to_header()
    line = _line(b"traceparent", context)
    return line + b"tracestate: " + state.encode() + b"\r\n" if line and state else line


def _line(name: bytes, context: SpanContext) -> bytes:
    if not context.is_valid:
        return b""
    return b"%b: 00-%032x-%016x-%02x\r\n" % (name, context.trace_id, context.span_id, context.trace_flags & 1)
