"""W3C trace context as it comes: read from a header block, and current in the task that handles the message.

The hot path does not come through `extract`: `Template.receive` reads a well-formed header itself. Sources: W3C Trace
Context level 1, W3C Baggage; the contextvar is the one of the OpenTelemetry API, so that user spans and logs see ours.
"""

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace import propagation
from opentelemetry.trace.span import Span, SpanContext, TraceFlags, TraceState

from runtime.wire import headers

# Version 00 has exactly four fields; a later version may have more, and is then read as if it were 00.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_MAX_TRACESTATE = 8192
_BAGGAGE = W3CBaggagePropagator()
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSAMPLED = TraceFlags(TraceFlags.DEFAULT)

# The API makes a copy of a dictionary, two look-ups and three calls of what is one write to a contextvar. Its own key and
# variable are used, so that `trace.get_current_span()` finds the span.
_SPAN_KEY: str = propagation._SPAN_KEY
_RUNTIME = otel_context._RUNTIME_CONTEXT
_VARIABLE: ContextVar[Context] | None = (
    _RUNTIME._current_context if isinstance(_RUNTIME, ContextVarsRuntimeContext) else None
)
get_context = _RUNTIME.get_current if _VARIABLE is None else _VARIABLE.get
attach_context: Callable[[Any], Token[Context]] = _RUNTIME.attach if _VARIABLE is None else _VARIABLE.set
"""Make a span of ours (or a context) current; `attach` for a message without baggage."""
detach = _RUNTIME.detach if _VARIABLE is None else _VARIABLE.reset
"""Make current again what was so before the `attach` that gave the token, in the same task."""


class SpanAsContext:
    """Makes a span the OpenTelemetry context in which there is nothing but itself: it can be asked what a `Context` can.

    A dictionary for it would cost as much as the span.
    """

    __slots__ = ()

    def get(self, key: str, default: object = None) -> object:
        """The span, under the API's key for it."""
        return self if key == _SPAN_KEY else default

    def copy(self) -> dict[str, object]:
        """What to make another context of."""
        return {_SPAN_KEY: self}

    def keys(self) -> Iterator[str]:
        """The one key."""
        return iter((_SPAN_KEY,))

    __iter__ = keys

    def items(self) -> Iterator[tuple[str, object]]:
        """The one item."""
        return iter(((_SPAN_KEY, self),))

    def __contains__(self, key: object) -> bool:
        return key == _SPAN_KEY

    def __getitem__(self, key: str) -> object:
        if key != _SPAN_KEY:
            raise KeyError(key)
        return self

    def __len__(self) -> int:
        return 1


class Parent(NamedTuple):
    """A remote parent: ids as lower-case hex bytes, whether its owner sampled it, and its tracestate ('' if none)."""

    trace: bytes
    span: bytes
    sampled: bool
    tracestate: str


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
        _SAMPLED if sampled else _UNSAMPLED,
        TraceState.from_header([state]) if state else TraceState(),
    )


def current() -> Span | None:
    """The span that is current in this task, or None."""
    return get_context().get(_SPAN_KEY)  # pyright: ignore[reportReturnType]  # the API keeps nothing else there


def attach(span: Span, block: bytes | None = None) -> Token[Context]:
    """Make `span`, with the baggage of the header `block`, the current span of this task until `detach(token)`.

    What was current before is hidden, not extended: a handler sees its own message's context and nothing else.
    """
    # Every baggage member has an "=", and few other headers do: one byte is looked for instead of a name.
    if block is not None and 61 in block:
        value = headers.get(block, headers.BAGGAGE)
        if value is not None:
            return attach_context(
                propagation.set_span_in_context(span, _BAGGAGE.extract({"baggage": value}, Context()))
            )
    return attach_context(span if isinstance(span, SpanAsContext) else Context({_SPAN_KEY: span}))


@contextmanager
def attached(span: Span, block: bytes | None = None) -> Generator[Span]:
    """`attach` and `detach` around a `with` block; the span is not ended."""
    token = attach(span, block)
    try:
        yield span
    finally:
        detach(token)
