"""The trace context that a message carries, and the current OpenTelemetry context of a task.

`Template.receive` reads a well-formed `traceparent` on the hot path itself; `extract` handles every other form. The
context variable is that of the OpenTelemetry API, so that user spans and log records find the runtime's spans.

Sources: W3C Trace Context level 2, W3C Baggage.
"""

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from functools import lru_cache
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
_MEMBER = re.compile(
    r"(?:[a-z0-9][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
"""A member of a tracestate: its key, perhaps with a tenant before ``@``, and its value."""
_MAX_MEMBERS = 32
_MAX_TRACESTATE = 20_000
"""Characters of a tracestate that is read. 32 members of the greatest length have 16,448."""
_BAGGAGE = W3CBaggagePropagator()
_FLAGS = [TraceFlags(flags) for flags in range(4)]
"""The flags of the API by their number: 1 is sampled, 2 is random."""

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
    """The members of the `tracestate` headers, or "" if there are none."""
    random: bool = False
    """Whether the trace id was made at random, which samplers may rely on."""

    @property
    def flags(self) -> int:
        """The trace flags of level 2: 1 for sampled, 2 for random."""
        return self.sampled | self.random << 1


def extract(block: bytes | None) -> Parent | None:
    """Return the parent that a header block carries.

    Returns:
        The parent; None if the block has no `traceparent`, more than one, or an invalid one, so that a new trace starts.
    """
    found = header_block.values(block, header_block.TRACEPARENT)
    match = _TRACEPARENT.fullmatch(found[0].decode("utf-8", "replace")) if len(found) == 1 else None
    if match is None:
        return None
    version, trace, span, flags, further_fields = match.groups()
    if version == "ff" or (version == "00" and further_fields is not None):
        return None
    bits = int(flags, 16)
    return Parent(trace.encode(), span.encode(), bits & 1 == 1, tracestate(block), bits & 2 == 2)


def tracestate(block: bytes | None) -> str:
    """Return the members of all `tracestate` headers of a block, in order, with commas between them.

    The result is "" if there are none, if one is invalid, or if they are more than 32.
    """
    return _joined_members(b",".join(header_block.values(block, header_block.TRACESTATE)))


@lru_cache(maxsize=64)  # each message that a handler sends carries the tracestate of its own message
def _joined_members(text: bytes) -> str:
    if not text or len(text) > _MAX_TRACESTATE:
        return ""
    members = [stripped for each in text.decode("utf-8", "replace").split(",") if (stripped := each.strip(" \t"))]
    if len(members) > _MAX_MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return ""
    return ",".join(members)


def received_baggage(block: bytes | None) -> bytes:
    """Return the values of all `baggage` headers of a block, in order, with commas between them; b"" if there are none."""
    if block is None or EQUALS_SIGN not in block:
        return b""
    return b",".join(filter(None, header_block.values(block, header_block.BAGGAGE)))


def trace_lines(parent: Parent) -> bytes:
    """Return the header lines that carry a parent: `traceparent`, and `tracestate` if it has members."""
    line = b"traceparent: 00-%b-%b-%02x\r\n" % (parent.trace, parent.span, parent.flags)
    return line + b"tracestate: " + parent.tracestate.encode() + b"\r\n" if parent.tracestate else line


def span_context(trace: bytes, span: bytes, *, flags: int, remote: bool, state: str = "") -> SpanContext:
    """Return ids in OpenTelemetry's form, for user code and SDK span processors."""
    return SpanContext(
        int(trace, 16),
        int(span, 16),
        remote,
        _FLAGS[flags],
        TraceState.from_header([state]) if state else TraceState(),
    )


def current() -> Span | None:
    """Return the current span of this task, or None."""
    return get_context().get(_SPAN_KEY)  # pyright: ignore[reportReturnType]  # the API keeps nothing else there


def add_link(block: bytes | None) -> None:
    """Add a link from the current span to the span that a received message carries; do nothing if either is missing."""
    span = current()
    if span is None or not span.is_recording():
        return
    sender = extract(block)
    if sender is not None:
        span.add_link(span_context(sender.trace, sender.span, flags=sender.flags, remote=True, state=sender.tracestate))


def attach(span: Span, block: bytes | None = None) -> Token[Context]:
    """Make a span current in this task, until `detach(token)`.

    The new context replaces the current one and does not extend it: a handler sees the context of its own message only.

    Args:
        span: The span, which need not be one of the runtime's.
        block: The header block of the message; its baggage becomes part of the context.
    """
    if value := received_baggage(block):
        context = _BAGGAGE.extract({"baggage": value.decode("utf-8", "replace")}, Context())
        return attach_context(propagation.set_span_in_context(span, context))
    return attach_context(span if isinstance(span, SpanAsContext) else Context({_SPAN_KEY: span}))


@contextmanager
def attached(span: Span, block: bytes | None = None) -> Generator[Span]:
    """Call `attach` and `detach` around a `with` block. The span is not ended."""
    token = attach(span, block)
    try:
        yield span
    finally:
        detach(token)
