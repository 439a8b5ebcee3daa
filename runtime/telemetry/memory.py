"""Ended spans as plain records, for tests, the demo and `--trace`."""

from collections.abc import Mapping
from typing import NamedTuple

from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from runtime.telemetry.spans.lean_span import LeanSpan
from runtime.telemetry.spans.template import Template


class SpanRecord(NamedTuple):
    """An ended span. Ids are lower-case hex digits."""

    service: str
    name: str
    kind: SpanKind
    trace_id: str
    span_id: str
    parent_id: str | None
    start: int
    """Unix nanoseconds, as is `end`."""
    end: int
    attributes: Mapping[str, AttributeValue]
    events: tuple[tuple[int, str, Mapping[str, AttributeValue]], ...]
    """Time in Unix nanoseconds, name and attributes of each event."""
    links: tuple[tuple[str, str], ...]
    """Trace id and span id of each link."""
    status: str
    """One of UNSET, OK and ERROR."""
    description: str | None
    """The description of an error."""


def record_of(span: LeanSpan) -> SpanRecord:
    """Return the record of an ended span."""
    template = span.spec
    assert isinstance(template, Template)
    details = span.details
    trace, parent = span.trace.decode(), span.parent.decode() if span.parent is not None else None
    links = [(trace, parent)] if template.linked and span.remote and parent is not None else []
    if details is not None:
        links += [(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") for link in details.links]
    return SpanRecord(
        service=template.scope.service.name,
        name=span.name,
        kind=template.kind,
        trace_id=trace,
        span_id=span.id.decode(),
        parent_id=parent,
        start=span.started,
        end=span.ended,
        attributes=dict(span.attributes),
        events=() if details is None else tuple(details.events),
        links=tuple(links),
        status="UNSET" if details is None else details.status.name,
        description=None if details is None else details.description,
    )
