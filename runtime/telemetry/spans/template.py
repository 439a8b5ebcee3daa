"""Span templates: the parts that all spans of an operation share, prepared once, and the functions that start a span.

`Template.receive` is on the path of every message. Nearly every traced message comes from another process of this
runtime, which writes `traceparent` first in the header block, so its fields are at known positions. `receive` compares
the bytes at these positions, with all hex digits replaced by one of them, and creates the span. Any other block, and any
sampler that must be asked, takes the general path (`_receive`, `_decide`), which finds the headers by name. Both paths
give the same result.
"""

from collections.abc import Sequence
from typing import Literal

from opentelemetry.context.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanKind, propagation
from opentelemetry.trace.span import Span, SpanContext
from opentelemetry.util.types import AttributeValue

from runtime.telemetry.spans.context import Parent, current, extract, get_context, span_context, trace_lines
from runtime.telemetry.spans.lean_span import LeanSpan, SpanSpec
from runtime.telemetry.spans.propagated import NO_SPAN, PropagatedSpan, UnsampledSpan
from runtime.telemetry.spans.random_ids import new_trace
from runtime.telemetry.spans.sampling import Sampling, SamplingDecision
from runtime.telemetry.spans.scope import Scope
from runtime.wire import header_block
from runtime.wire.envelope import (
    BEFORE_IDS,
    EQUALS_SIGN,
    FROM_IDS,
    HEX_AS_ZERO,
    PLAIN_SHAPES,
    PLAIN_SIZES,
    SAMPLED,
    SPAN_ID,
    TRACE_FLAG,
    TRACE_ID,
    TRACE_START,
    UNSAMPLED,
    begins_with_only_trace,
)

Extra = dict[str, AttributeValue] | None
"""Attributes of one span, in addition to those of its template. The span owns the dictionary."""
ParentMode = Literal["parent", "parent+link", "link"]
"""The relation of a received span to the span that sent its message.

"parent" makes the sender's span its parent, "parent+link" adds a link to the sender's span, and "link" starts a new
trace that only links to it.
"""

_ZERO_TRACE, _ZERO_SPAN = b"0" * 32, b"0" * 16
"""The ids that W3C Trace Context declares invalid."""
_TRACEPARENT_WITHOUT_ITS_FIRST_LETTER = b"raceparent:"
"""Matches `traceparent:` and `Traceparent:`, the two spellings that are in use, with one search."""

_PROPAGATE, _DROP, _RECORD = SamplingDecision.PROPAGATE, SamplingDecision.DROP, SamplingDecision.RECORD
"""The decisions as globals: on the hot path, an attribute of an enum costs another look-up."""


class Template(SpanSpec):
    """Starts the spans of one operation of one service. `ServiceTracer.template` creates it, once per operation.

    Args:
        scope: The instrumentation scope, which belongs to a service.
        name: The name of the spans.
        kind: The kind of the spans.
        attributes: Attributes of every span.
        parent_mode: The relation of received spans to the span that sent their message.
    """

    __slots__ = ("encoding", "linked", "recorder", "rooted", "scope")

    def __init__(
        self,
        scope: Scope,
        name: str,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
        parent_mode: ParentMode,
    ) -> None:
        self.scope = scope
        self.recorder = recorder = scope.service.recorder
        self.limits = recorder.limits
        self.name = name
        self.kind = kind
        self.attributes = attributes
        self.linked = parent_mode == "parent+link"
        """Whether received spans have a link to their parent too."""
        self.rooted = parent_mode == "link"
        """Whether received spans start a new trace."""
        self.put = recorder.put
        self.encoding: object | None = None
        """The encoded constant part of the spans. Only the OTLP encoder reads and sets it."""

    @property
    def records(self) -> bool:
        """Whether spans may be recorded. If not, callers need not build the attributes of a span."""
        return self.recorder.sampling.root is not _PROPAGATE

    def receive(self, block: bytes | None, attributes: Extra = None) -> LeanSpan | PropagatedSpan:
        """Start the span of a received message.

        Args:
            block: The header block of the message. Its `traceparent` is the parent; without one, the span starts a
                new trace.
            attributes: Attributes of this span, which owns the dictionary.

        Returns:
            The span; if it is not recorded, a `PropagatedSpan`, which passes on the context of the message.
        """
        sampling = self.recorder.sampling
        if sampling.root is _PROPAGATE:
            # `partition` takes half the time of `in`, and two thirds of that of `find`.
            if block is None or not block.partition(_TRACEPARENT_WITHOUT_ITS_FIRST_LETTER)[1]:
                return NO_SPAN
            return PropagatedSpan(block)
        if block is not None:
            if len(block) in PLAIN_SIZES:
                # `begins_with_only_trace` in place, for a block that has nothing but a deadline after its trace.
                first = block[BEFORE_IDS] == TRACE_START and block[FROM_IDS].translate(HEX_AS_ZERO) in PLAIN_SHAPES
            else:
                first = begins_with_only_trace(block)
            flag = block[TRACE_FLAG] if first else None
            if flag == SAMPLED:
                trace, parent = block[TRACE_ID], block[SPAN_ID]
                if sampling.sampled is _RECORD and not self.rooted and trace != _ZERO_TRACE and parent != _ZERO_SPAN:
                    state_block = block if EQUALS_SIGN in block else None
                    span = LeanSpan(self, trace, parent, True, state_block, attributes)
                    if self.recorder.processors:
                        self._on_start(span)
                    return span
            elif flag == UNSAMPLED and sampling.unsampled is _DROP:
                return UnsampledSpan(block)
        elif sampling.root is _RECORD:
            return self._root(attributes)
        return self._receive(block, attributes)

    def start(self, parent: Span | None = None, attributes: Extra = None, links: Sequence[Link] = ()) -> Span:
        """Start a span of work in this process.

        Args:
            parent: Any OpenTelemetry span; None starts a new trace.
            attributes: Attributes of this span, which owns the dictionary.
            links: Links to other spans.

        Returns:
            The span; if it is not recorded, a span that passes on the parent's context.
        """
        sampling = self.recorder.sampling
        if sampling.root is _PROPAGATE:
            return NO_SPAN if parent is None else parent
        if type(parent) is LeanSpan and sampling.sampled is _RECORD:
            span = LeanSpan(self, parent.trace, parent.id, False, parent.state_block, attributes)
            if links or self.recorder.processors:
                self._on_start(span, links)
            return span
        if parent is None and sampling.root is _RECORD:
            return self._root(attributes, links)
        if isinstance(parent, UnsampledSpan) and sampling.unsampled is _DROP:
            return parent
        context = None if parent is None else parent.get_span_context()
        if context is None or not context.is_valid:
            return self._decide(None, False, attributes, links)
        return self._decide(_parent_of(context), False, attributes, links)

    def child(self, attributes: Extra = None, links: Sequence[Link] = ()) -> Span:
        """Start a span under the current span of this task, or a new trace if there is none."""
        if not get_context() and self.recorder.sampling.root is _RECORD:
            return self._root(attributes, links)  # as for each request of a plain program
        return self.start(current(), attributes, links)

    def _root(self, attributes: Extra, links: Sequence[Link] = ()) -> LeanSpan:
        span = LeanSpan(self, new_trace(), None, False, None, attributes)
        if links or self.recorder.processors:
            self._on_start(span, links)
        return span

    def _receive(self, block: bytes | None, attributes: Extra) -> LeanSpan | PropagatedSpan:
        parent = extract(block)
        if parent is None or not self.rooted:
            return self._decide(parent, True, attributes, ())
        link = Link(span_context(parent.trace, parent.span, flags=parent.flags, remote=True))
        return self._decide(None, False, attributes, (link,))

    def _decide(
        self,
        parent: Parent | None,
        remote: bool,
        attributes: Extra,
        links: Sequence[Link],
    ) -> LeanSpan | PropagatedSpan:
        """Start a span by the general path: take the sampling decision, then create a recorded or a dropped span."""
        sampling = self.recorder.sampling
        decision = sampling.root if parent is None else sampling.sampled if parent.sampled else sampling.unsampled
        if parent is not None:
            trace, state = parent.trace, parent.tracestate
        else:
            trace, state = new_trace(), ""
        if decision is SamplingDecision.PER_SPAN and sampling.sampler is None:
            decision = _RECORD if sampling.in_ratio(trace) else _DROP
        elif decision is SamplingDecision.PER_SPAN:
            decision, attributes, state = self._ask(sampling, parent, trace, remote, attributes, links)
        if decision is not _RECORD:
            return UnsampledSpan.under(parent, trace, state)
        above = None if parent is None else parent.span
        state_block = None
        if state or (parent is not None and parent.random):
            carried = Parent(trace, above or trace[:16], True, state, parent is not None and parent.random)
            state_block = header_block.join(trace_lines(carried))
        span = LeanSpan(self, trace, above, remote and parent is not None, state_block, attributes)
        if links or self.recorder.processors:
            self._on_start(span, links)
        return span

    def _ask(
        self,
        sampling: Sampling,
        parent: Parent | None,
        trace: bytes,
        remote: bool,
        attributes: Extra,
        links: Sequence[Link],
    ) -> tuple[SamplingDecision, Extra, str]:
        """Return the decision of the sampler, with the attributes and the tracestate that it adds."""
        assert sampling.sampler is not None
        context = Context()
        if parent is not None:
            above = span_context(parent.trace, parent.span, flags=parent.flags, remote=remote, state=parent.tracestate)
            context = propagation.set_span_in_context(NonRecordingSpan(above), context)
        given = {**self.attributes, **(attributes or {})}
        result = sampling.sampler.should_sample(context, int(trace, 16), self.name, self.kind, given, links)
        state = result.trace_state.to_header() if result.trace_state else ""
        if not result.decision.is_sampled():
            return _DROP, attributes, state
        return _RECORD, {**(attributes or {}), **result.attributes} or None, state

    def _on_start(self, span: LeanSpan, links: Sequence[Link] = ()) -> None:
        """Add the links, then call the span processors."""
        for link in links:
            span.add_link(link.context, link.attributes)
        for processor in self.recorder.processors:
            processor.on_start(span)  # pyright: ignore[reportArgumentType]


def _parent_of(context: SpanContext) -> Parent:
    """Return the ids of a local span in the form of a parent."""
    return Parent(
        b"%032x" % context.trace_id,
        b"%016x" % context.span_id,
        context.trace_flags.sampled,
        context.trace_state.to_header(),
        context.trace_flags & 2 == 2,
    )
