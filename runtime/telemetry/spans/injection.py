"""The header lines that carry the trace context to the receiver of a message, and back in a reply."""

from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.trace.span import Span, SpanContext

from runtime.telemetry.spans.context import SpanAsContext, current, get_context, received_baggage
from runtime.telemetry.spans.lean_span import LeanSpan
from runtime.telemetry.spans.propagated import NO_SPAN, PropagatedSpan, UnsampledSpan
from runtime.wire import header_block

_BAGGAGE = W3CBaggagePropagator()


def inject(span: Span | None = None) -> bytes:
    """Return the header lines that make a span the parent at the receiver.

    The lines are `traceparent`, `tracestate`, and the `baggage` of the current context. Put them first in the header
    block: `Template.receive` reads them fastest there.

    Args:
        span: The parent; the current span by default.

    Returns:
        The lines, each ending in CRLF; b"" if there is no trace and no baggage.
    """
    context = get_context()
    if span is None:
        span = current()
    if span is NO_SPAN and (context is NO_SPAN or not context):
        return b""
    # The exact type is compared first, since `isinstance` of an abstract class costs more than building the line.
    lines = b"" if span is None else span.lines() if type(span) is LeanSpan else _lines(span)
    # Most contexts are spans, which have no baggage, or have no values at all.
    if context and not isinstance(context, SpanAsContext) and baggage.get_all(context):
        carrier: dict[str, str] = {}
        _BAGGAGE.inject(carrier, context)
        if "baggage" in carrier:
            lines += b"baggage: " + carrier["baggage"].encode() + b"\r\n"
    return lines


def inject_pairs(span: Span | None = None) -> list[tuple[str, str]]:
    """Return the headers of `inject` as names and values, for `header_block.encode`."""
    lines = inject(span).decode().split("\r\n")[:-1]
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


def baggage_line(block: bytes | None) -> bytes:
    """Return the `baggage` line of a header block, so that another message can carry the same baggage.

    Returns:
        The line, ending in CRLF; b"" if the block has no baggage.
    """
    value = received_baggage(block)
    return header_block.line(header_block.BAGGAGE, value) if value else b""


def response_line(span: Span) -> bytes:
    """Return the `traceresponse` line of a reply.

    Args:
        span: The span of the request.

    Returns:
        The line, ending in CRLF; b"" if the span is not recorded.
    """
    if type(span) is LeanSpan:
        return b"traceresponse: 00-%b-%b-01\r\n" % (span.trace, span.id)
    return b"" if isinstance(span, PropagatedSpan) else _line(b"traceresponse", span.get_span_context())


def response_block(span: Span) -> bytes | None:
    """Return the header block of a reply that has no other header than `response_line`; None if it needs no header.

    Args:
        span: The span of the request.
    """
    if type(span) is LeanSpan:
        return _RESPONSE_BLOCK % (span.trace, span.id)
    # Spans are compared by exact type: `isinstance` with an abstract class costs four times as much as the block.
    if type(span) in _SILENT:
        return None
    line = response_line(span)
    return header_block.join(line) if line else None


_SILENT = frozenset((PropagatedSpan, UnsampledSpan))
"""The types of spans that are not recorded. Their replies need no header."""

_RESPONSE_BLOCK = header_block.join(header_block.line(header_block.TRACERESPONSE, b"00-%b-%b-01"))


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
    return b"%b: 00-%032x-%016x-%02x\r\n" % (name, context.trace_id, context.span_id, context.trace_flags & 3)
