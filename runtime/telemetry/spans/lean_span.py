"""Lean spans: OpenTelemetry spans for user code, at a twentieth of the cost of the SDK's.

A span of the SDK costs 20 microseconds, and the dispatch of a whole request less than four (ADR 007). Nearly all
spans of an operation differ in their ids and times only, so a `LeanSpan` has fields for these alone. It shares the
`SpanSpec` of its operation for the rest, and creates an object for details (`Details`) only if user code adds an
event, a link, a status or another name. Ended spans are encoded in slices (`export/otlp.py`).
"""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.span import Span, SpanContext
from opentelemetry.trace.status import Status, StatusCode
from opentelemetry.util.types import Attributes, AttributeValue

from runtime.faults import error_text, stack_trace
from runtime.telemetry import semconv
from runtime.telemetry.spans.context import Parent, SpanAsContext, span_context, trace_lines, tracestate
from runtime.telemetry.spans.limits import SpanLimits
from runtime.telemetry.spans.random_ids import new_id
from runtime.wire.envelope import RANDOM, TRACE_FLAG

_now = time.time_ns

if TYPE_CHECKING:

    class SpanStruct(msgspec.Struct, SpanAsContext, Span):  # pyright: ignore[reportGeneralTypeIssues]
        """A span that is a struct."""
else:

    class SpanStruct(SpanAsContext, msgspec.Struct, gc=False, eq=False):
        """A span that is a struct.

        A struct is created in C, in less than half the time that an instance of a Python class takes. Its instances
        are not tracked by the garbage collector, which saves as much again; no object that a span refers to refers
        back to it.
        """

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self.end()

    Span.register(SpanStruct)


class SpanSpec:
    """The parts that all spans of one operation share."""

    __slots__ = ("attributes", "kind", "limits", "name", "put")

    limits: SpanLimits
    name: str
    kind: SpanKind
    attributes: dict[str, AttributeValue]
    """Attributes of every span. A span's own attributes take precedence."""
    put: Callable[["LeanSpan"], None]
    """The function that takes a span when it ends."""


class Details:
    """The parts that few spans have: events, links, a status, another name, and counts of dropped items."""

    __slots__ = (
        "description",
        "dropped_attributes",
        "dropped_events",
        "dropped_links",
        "events",
        "links",
        "name",
        "status",
    )

    def __init__(self) -> None:
        self.events: list[tuple[int, str, dict[str, AttributeValue]]] = []
        """Time in Unix nanoseconds, name and attributes of each event."""
        self.links: list[Link] = []
        self.status = StatusCode.UNSET
        self.description: str | None = None
        self.name: str | None = None
        """The name that replaces the one of the spec."""
        self.dropped_attributes = 0
        self.dropped_events = 0
        self.dropped_links = 0


class LeanSpan(SpanStruct, gc=False, eq=False):
    """A recorded span. Calls after `end` change nothing."""

    spec: SpanSpec
    trace: bytes
    """Trace id, in lower-case hex digits, as are `id` and `parent`."""
    parent: bytes | None
    remote: bool
    """Whether the parent came with a message. Its span is then usually in another process."""
    state_block: bytes | None
    """The header block with which the trace arrived, if that may contain a tracestate or has the random flag.

    The trace is the first header of it."""
    extra: dict[str, AttributeValue] | None
    """The span's own attributes."""
    id: bytes = msgspec.field(default_factory=new_id)
    started: int = msgspec.field(default_factory=_now)
    """Unix nanoseconds, as is `ended`; `ended` is 0 until the span ends."""
    ended: int = 0
    details: Details | None = None

    def end(self, end_time: int | None = None) -> None:
        """End the span and pass it to the recorder. Later calls do nothing.

        Args:
            end_time: Unix nanoseconds; the current time by default.
        """
        if not self.ended:
            self.ended = end_time or _now()
            self.spec.put(self)

    def lines(self) -> bytes:
        """Return the header lines that make this span a parent: `traceparent`, and `tracestate` if there is one."""
        # `join` takes two thirds of the time of `%`.
        block = self.state_block
        if block is None:
            return b"".join((b"traceparent: 00-", self.trace, b"-", self.id, b"-01\r\n"))
        return trace_lines(Parent(self.trace, self.id, True, tracestate(block), block[TRACE_FLAG] == RANDOM))

    def is_recording(self) -> bool:
        """Return True until the span ends."""
        return not self.ended

    def get_span_context(self) -> SpanContext:
        """Return the ids in OpenTelemetry's form; a new object on each call."""
        block = self.state_block
        state, flags = (tracestate(block), 3 if block[TRACE_FLAG] == RANDOM else 1) if block is not None else ("", 1)
        return span_context(self.trace, self.id, flags=flags, remote=False, state=state)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Set one attribute. Its value is a str, bool, int, float or bytes, or a sequence of one of these types."""
        if self.ended:
            return
        extra = self.extra
        if extra is None:
            extra = self.extra = {}
        limits = self.spec.limits
        if len(extra) >= limits.attributes and key not in extra:
            self.detail().dropped_attributes += 1
        else:
            extra[key] = limits.value(value)

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set several attributes."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Add an event at `timestamp` (Unix nanoseconds; the current time by default)."""
        if self.ended:
            return
        detail, limits = self.detail(), self.spec.limits
        if len(detail.events) >= limits.events:
            detail.dropped_events += 1
        else:
            bounded = limits.bounded(attributes, limits.event_attributes)
            detail.events.append((timestamp or _now(), name, bounded))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Add a link to another span."""
        if self.ended:
            return
        detail, limits = self.detail(), self.spec.limits
        if len(detail.links) >= limits.links:
            detail.dropped_links += 1
        else:
            detail.links.append(Link(context, limits.bounded(attributes, limits.link_attributes)))

    def update_name(self, name: str) -> None:
        """Replace the name."""
        if not self.ended:
            self.detail().name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status. OK is final and UNSET is ignored, as the specification requires."""
        code = status.status_code if isinstance(status, Status) else status
        detail = self.detail()
        if self.ended or code is StatusCode.UNSET or detail.status is StatusCode.OK:
            return
        detail.status = code
        text = status.description if isinstance(status, Status) else description
        detail.description = text if code is StatusCode.ERROR else None

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add an `exception` event with type, message and stack trace."""
        kind = type(exception)
        module = kind.__module__
        event: dict[str, AttributeValue] = {
            semconv.EXCEPTION_TYPE: kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}",
            semconv.EXCEPTION_MESSAGE: error_text(exception),
            semconv.EXCEPTION_STACKTRACE: stack_trace(exception),
            semconv.EXCEPTION_ESCAPED: str(escaped),
        }
        self.add_event(semconv.EXCEPTION_EVENT, {**event, **(attributes or {})}, timestamp)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        if isinstance(exc_val, Exception):
            self.record_exception(exc_val, escaped=True)
            self.set_status(StatusCode.ERROR, f"{type(exc_val).__name__}: {error_text(exc_val)}")
        self.end()

    def detail(self) -> Details:
        """Return the details, which are created on the first call."""
        details = self.details
        if details is None:
            details = self.details = Details()
        return details

    @property
    def name(self) -> str:
        """The current name."""
        return self.details.name if self.details is not None and self.details.name else self.spec.name

    @property
    def kind(self) -> SpanKind:
        """The kind."""
        return self.spec.kind

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """The attributes of the spec and the span's own."""
        return {**self.spec.attributes, **self.extra} if self.extra else self.spec.attributes
