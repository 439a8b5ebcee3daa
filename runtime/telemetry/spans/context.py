"""The trace context that a message carries, and the current OpenTelemetry context of a task.

`Template.receive` reads a well-formed `traceparent` on the hot path itself; `extract` handles every other form. The
context variable is that of the OpenTelemetry API, so that user spans and log records find the runtime's spans.

Sources: W3C Trace Context level 1, W3C Baggage.
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

from runtime.wire import header_block
from runtime.wire.envelope import EQUALS_SIGN

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
"""Version, trace id, span id, flags, and further fields, which only a version after 00 may have."""
_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_MAX_TRACESTATE = 8192
"""Characters of a tracestate that is carried on; a longer one is dropped."""
_BAGGAGE = W3CBaggagePropagator()
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSAMPLED = TraceFlags(TraceFlags.DEFAULT)

_SPAN_KEY: str = propagation._SPAN_KEY
"""The API's key of the span in a context, so that `trace.get_current_span()` finds the runtime's spans."""
_RUNTIME_CONTEXT = otel_context._RUNTIME_CONTEXT
_VARIABLE: ContextVar[Context] | None = (
    _RUNTIME_CONTEXT._current_context if isinstance(_RUNTIME_CONTEXT, ContextVarsRuntimeContext) else None
)
"""The context variable of the API; None if another implementation of the context is configured.

The API's own functions copy a dictionary, make two look-ups and call three functions to set the current span. The
functions below set the variable, which is one call.
"""
get_context = _RUNTIME_CONTEXT.get_current if _VARIABLE is None else _VARIABLE.get
"""Return the current OpenTelemetry context of this task. A context without values is false."""
attach_context: Callable[[Any], Token[Context]] = _RUNTIME_CONTEXT.attach if _VARIABLE is None else _VARIABLE.set
"""Make a context current, or one of the runtime's spans as its own context. Only `attach` adds baggage."""
detach = _RUNTIME_CONTEXT.detach if _VARIABLE is None else _VARIABLE.reset
"""Restore the context that was current before the `attach` which returned the token. Call it in the same task."""


class SpanAsContext:
    """A span that is also the OpenTelemetry context which contains only that span.

    OpenTelemetry keeps the current span in a context: an immutable mapping that is copied for each value added to it.
    Each message needs a context of its own, nearly always with the span as its only value, and a dictionary for it
    costs as much as the span itself. The API reads contexts by `get` and derives others by `copy`, so a span can
    answer these calls itself, and making it current allocates nothing. A context that is derived from it is an
    ordinary dictionary.
    """

    __slots__ = ()

    def get(self, key: str, default: object = None) -> object:
        """Return the span if `key` is the API's key for it."""
        return self if key == _SPAN_KEY else default

    def copy(self) -> dict[str, object]:
        """Return a dictionary from which the API makes another context."""
        return {_SPAN_KEY: self}

    def keys(self) -> Iterator[str]:
        """Iterate over the only key."""
        return iter((_SPAN_KEY,))

    __iter__ = keys

    def items(self) -> Iterator[tuple[str, object]]:
        """Iterate over the only item."""
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
    """The parent of a span, in the form in which headers carry it."""

    trace: bytes
    """Trace id: 32 lower-case hex digits."""
    span: bytes
    """Span id: 16 lower-case hex digits."""
    sampled: bool
    """Whether the service of the parent recorded it."""
    tracestate: str
    """The `tracestate` header, or "" if there is none."""


def extract(block: bytes | None) -> Parent | None:
    """Return the parent that a header block carries.

    Returns:
        The parent; None if the block has no `traceparent` or an invalid one, so that a new trace starts.
    """
    value = header_block.get(block, header_block.TRACEPARENT)
    match = _TRACEPARENT.fullmatch(value) if value is not None else None
    if match is None:
        return None
    version, trace, span, flags, further_fields = match.groups()
    if version == "ff" or (version == "00" and further_fields is not None):
        return None
    return Parent(trace.encode(), span.encode(), int(flags, 16) & 1 == 1, tracestate(block))


def tracestate(block: bytes | None) -> str:
    """Return the `tracestate` of a header block unchanged; "" if it is absent, too long, or not printable ASCII."""
    value = header_block.get(block, header_block.TRACESTATE)
    return value if value is not None and len(value) <= _MAX_TRACESTATE and _PRINTABLE.fullmatch(value) else ""


def span_context(trace: bytes, span: bytes, *, sampled: bool, remote: bool, state: str = "") -> SpanContext:
    """Return ids in OpenTelemetry's form, for user code and SDK span processors."""
    return SpanContext(
        int(trace, 16),
        int(span, 16),
        remote,
        _SAMPLED if sampled else _UNSAMPLED,
        TraceState.from_header([state]) if state else TraceState(),
    )


def current() -> Span | None:
    """Return the current span of this task, or None."""
    return get_context().get(_SPAN_KEY)  # pyright: ignore[reportReturnType]  # the API keeps nothing else there


def attach(span: Span, block: bytes | None = None) -> Token[Context]:
    """Make a span current in this task, until `detach(token)`.

    The new context replaces the current one and does not extend it: a handler sees the context of its own message only.

    Args:
        span: The span, which need not be one of the runtime's.
        block: The header block of the message; its baggage becomes part of the context.
    """
    if block is not None and EQUALS_SIGN in block:
        value = header_block.get(block, header_block.BAGGAGE)
        if value is not None:
            return attach_context(
                propagation.set_span_in_context(span, _BAGGAGE.extract({"baggage": value}, Context()))
            )
    return attach_context(span if isinstance(span, SpanAsContext) else Context({_SPAN_KEY: span}))


@contextmanager
def attached(span: Span, block: bytes | None = None) -> Generator[Span]:
    """Call `attach` and `detach` around a `with` block. The span is not ended."""
    token = attach(span, block)
    try:
        yield span
    finally:
        detach(token)
