"""The OpenTelemetry API for user code: tracers whose spans are lean, and belong to the service in which they start."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.trace import Link, SpanKind, Tracer, TracerProvider, get_current_span, use_span
from opentelemetry.trace.span import Span
from opentelemetry.util._decorator import _agnosticcontextmanager
from opentelemetry.util.types import Attributes

from runtime.telemetry.spans.lean_span import LeanSpan
from runtime.telemetry.spans.scope import Scope, Service
from runtime.telemetry.spans.template import Template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import SpanProcessor

_MAX_TEMPLATES = 1000
"""Templates kept by a tracer. User span names may contain ids; further names get a template for one span."""


class SpanSource(Protocol):
    """What the provider needs of a `Tracing`, which imports this module and cannot be imported."""

    @property
    def records(self) -> bool:
        """Whether spans may be recorded."""
        ...

    def service(self) -> Service:
        """Return the service of spans that are started outside any actor."""
        ...

    def add_span_processor(self, processor: "SpanProcessor", *, owned: bool) -> None:
        """Call an SDK span processor for every span. An owned one is shut down with the tracing."""
        ...


class LeanTracer(Tracer):
    """A tracer of one instrumentation scope."""

    def __init__(self, provider: "LeanProvider", name: str, version: str, schema_url: str) -> None:
        self._provider = provider
        self._scope = (name, version, schema_url)
        self._templates: dict[tuple[Scope, str, SpanKind], Template] = {}

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: "Sequence[Link] | None" = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """Start a span under the current one, in the same service; without a current span, in the default service."""
        parent = get_current_span(context)
        spec = parent.spec if isinstance(parent, LeanSpan) else None
        service = spec.scope.service if isinstance(spec, Template) else self._provider.source.service()
        scope = service.scope(*self._scope)
        key = (scope, name, kind)
        template = self._templates.get(key)
        if template is None:
            template = Template(scope, name, kind, {}, "parent")
            if len(self._templates) < _MAX_TEMPLATES:
                self._templates[key] = template
        limits = template.limits
        given = limits.bounded(attributes, limits.attributes) or None
        span = template.start(parent, given, links or ())
        if isinstance(span, LeanSpan):
            if attributes and given is not None and len(given) < len(attributes):
                span.detail().dropped_attributes += len(attributes) - len(given)
            span.started = start_time or span.started
        return span

    @_agnosticcontextmanager
    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: "Sequence[Link] | None" = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[Span]:
        """Start a span and make it current for a `with` block or a decorated function, which may be a coroutine."""
        span = self.start_span(name, context, kind, attributes, links, start_time)
        with use_span(span, end_on_exit, record_exception, set_status_on_exception) as current:
            yield current


class LeanProvider(TracerProvider):
    """Creates lean tracers. A process has one, since the API's global provider can be set once only.

    A span that starts under a lean span goes to the recorder of that span. `source` supplies the service of other
    spans.
    """

    def __init__(self, source: SpanSource) -> None:
        self.source = source

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Tracer:
        """Return a tracer for an instrumentation scope."""
        return LeanTracer(self, instrumenting_module_name, instrumenting_library_version or "", schema_url or "")


def install(source: SpanSource) -> None:
    """Make lean spans the implementation of the OpenTelemetry API in this process.

    If the user has already set an SDK provider, that provider stays. Its span processors then get the runtime's spans
    too, and its spans nest in those of the runtime.

    Args:
        source: The tracing that supplies the service of spans outside any actor; the last one installed is used.
    """
    present = trace.get_tracer_provider()
    if isinstance(present, LeanProvider):
        present.source = source
    elif isinstance(present, trace.ProxyTracerProvider):
        if not source.records:
            return  # the API's own provider passes the trace context on
        trace.set_tracer_provider(LeanProvider(source))
    else:
        processor = getattr(present, "_active_span_processor", None)
        if processor is not None:
            source.add_span_processor(processor, owned=False)
