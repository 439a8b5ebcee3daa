"""The conversion of lean spans to the SDK's `ReadableSpan`, for the user's own span processors and exporters."""

from functools import lru_cache

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link
from opentelemetry.trace.status import Status, StatusCode

from runtime.telemetry import semconv
from runtime.telemetry.spans.context import span_context, tracestate
from runtime.telemetry.spans.lean_span import LeanSpan
from runtime.telemetry.spans.scope import Scope
from runtime.telemetry.spans.template import Template


def readable(span: LeanSpan) -> ReadableSpan:
    """Return an ended span in the SDK's form, with the same ids, times, attributes, events, links and status."""
    template = span.spec
    assert isinstance(template, Template)
    resource, scope = _scope(template.scope)
    state = tracestate(span.state_block) if span.state_block is not None else ""
    parent = None
    if span.parent is not None:
        parent = span_context(
            span.trace, span.parent, flags=span.get_span_context().trace_flags, remote=span.remote, state=state
        )
    details = span.details
    links = [Link(parent)] if template.linked and span.remote and parent is not None else []
    status = Status(StatusCode.UNSET)
    events: list[Event] = []
    if details is not None:
        links += details.links
        status = Status(details.status, details.description)
        events = [Event(name, attributes, at) for at, name, attributes in details.events]
    return ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=parent,
        resource=resource,
        attributes=span.attributes,
        events=events,
        links=links,
        kind=template.kind,
        status=status,
        start_time=span.started,
        end_time=span.ended,
        instrumentation_scope=scope,
    )


@lru_cache(maxsize=256)
def _scope(scope: Scope) -> tuple[Resource, InstrumentationScope]:
    resource = Resource(scope.service.resource, semconv.SCHEMA_URL)
    return resource, InstrumentationScope(scope.name, scope.version, scope.schema_url)
