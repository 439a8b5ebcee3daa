"""W3C trace context: read it from a header block, carry it in the task, write it into the next header block.

The hot path does not come through `extract`: `Template.receive` reads a well-formed header itself. Sources: W3C Trace
Context level 1, W3C Baggage; the contextvar is the one of the OpenTelemetry API, so that user spans and logs see ours.
"""

import re
from abc import abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import Token
from typing import NamedTuple

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context.context import Context
from opentelemetry.trace import propagation
from opentelemetry.trace.span import Span, SpanContext, TraceFlags, TraceState

from runtime import headers

# Version 00 has exactly four fields; a later version may have more, and is then read as if it were 00.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_MAX_TRACESTATE = 8192
_BAGGAGE = W3CBaggagePropagator()

# The API makes a dictionary copy, a lookup and two calls of what is one write to a contextvar; its own key is needed so
# that `trace.get_current_span()` finds the span.
_SPAN_KEY: str = propagation._SPAN_KEY
_RUNTIME = otel_context._RUNTIME_CONTEXT
_get_context = _RUNTIME.get_current
_attach = _RUNTIME.attach
_detach = _RUNTIME.detach


class Parent(NamedTuple):
    """A remote parent: ids as lower-case hex bytes, whether its owner sampled it, and its tracestate ('' if none)."""

    trace: bytes
    span: bytes
    sampled: bool
    tracestate: str


class WireSpan(Span):
    """A span that writes its own header lines."""

    __slots__ = ()

    @abstractmethod
    def lines(self) -> bytes:
        """The traceparent line, and the tracestate line if there is one; b"" without a trace."""

    @abstractmethod
    def traceresponse(self) -> bytes:
        """The traceresponse line; b"" where this span is not recorded."""


def extract(block: bytes | None) -> Parent | None:
    """The parent named by a header block; None where it has none or an invalid one (then a new trace starts)."""
    value = headers.get(block, headers.TRACEPARENT)
    match = _TRACEPARENT.fullmatch(value) if value is not None else None
    if match is None:
        return None
    version, trace, span, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    return Parent(trace.encode(), span.encode(), int(flags, 16) & 1 == 1, tracestate(block))


def tracestate(block: bytes | None) -> str:
    """The tracestate of a header block as it came, or '' where there is none or it cannot stand in a header."""
    value = headers.get(block, headers.TRACESTATE)
    return value if value is not None and len(value) <= _MAX_TRACESTATE and _PRINTABLE.fullmatch(value) else ""


def span_context(trace: bytes, span: bytes, *, sampled: bool, remote: bool, state: str = "") -> SpanContext:
    """The OpenTelemetry form of the ids, for user code and SDK processors."""
    return SpanContext(
        int(trace, 16),
        int(span, 16),
        remote,
        TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT),
        TraceState.from_header([state]) if state else TraceState(),
    )


def current() -> Span | None:
    """The span that is current in this task, or None."""
    span = _get_context().get(_SPAN_KEY)
    return span if isinstance(span, Span) else None


def attach(span: Span, block: bytes | None = None) -> Token[Context]:
    """Make `span`, with the baggage of the header `block`, the current span of this task until `detach(token)`.

    What was current before is hidden, not extended: a handler sees its own message's context and nothing else.
    """
    # Every baggage member has an "=", and few other headers do: one byte is looked for instead of a name.
    if block is not None and 61 in block:
        value = headers.get(block, headers.BAGGAGE)
        if value is not None:
            return _attach(propagation.set_span_in_context(span, _BAGGAGE.extract({"baggage": value}, Context())))
    return _attach(Context({_SPAN_KEY: span}))


def detach(token: Token[Context]) -> None:
    """Make current again what was so before the `attach` that gave `token`, in the same task."""
    _detach(token)


@contextmanager
def attached(span: Span, block: bytes | None = None) -> Generator[Span]:
    """`attach` and `detach` around a block; the span is not ended."""
    token = attach(span, block)
    try:
        yield span
    finally:
        detach(token)


def inject(span: Span | None = None) -> bytes:
    """Header lines that make `span` (None: the current one) the parent at the receiver.

    They are traceparent, tracestate and baggage (of the current context), each ending in CRLF, for joining into a
    block; b"" where there is nothing to carry.
    """
    context = _get_context()
    if span is None:
        found = context.get(_SPAN_KEY)
        span = found if isinstance(found, Span) else None
    lines = b"" if span is None else span_lines(span)
    # Nothing but the span is in most contexts.
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
    return span.traceresponse() if isinstance(span, WireSpan) else _format(b"traceresponse", span.get_span_context())


def span_lines(span: Span) -> bytes:
    """The traceparent and tracestate lines of any span: ours write their own, others are asked for their context."""
    if isinstance(span, WireSpan):
        return span.lines()
    context = span.get_span_context()
    state = context.trace_state.to_header()
    lines = _format(b"traceparent", context)
    return lines + b"tracestate: " + state.encode() + b"\r\n" if lines and state else lines


def _format(name: bytes, context: SpanContext) -> bytes:
    if not context.is_valid:
        return b""
    return b"%b: 00-%032x-%016x-%02x\r\n" % (name, context.trace_id, context.span_id, context.trace_flags & 1)
