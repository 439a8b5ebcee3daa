"""The template of an operation: all that its spans have in common, prepared once, and the ways to start one.

The hot path is `receive`: a well-formed sampled or unsampled `traceparent` is read by position in the header block; all
else, and every sampler that has to be asked, takes the longer way below it.
"""

import re
from collections.abc import Sequence
from typing import Literal

from opentelemetry.context.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanKind, propagation
from opentelemetry.trace.span import Span, SpanContext
from opentelemetry.util.types import AttributeValue

from runtime.telemetry.spans.context import Parent, current, extract, span_context
from runtime.telemetry.spans.lean_span import LeanSpan, SpanSpec
from runtime.telemetry.spans.propagated import NO_SPAN, PropagatedSpan, UnsampledSpan
from runtime.telemetry.spans.random_ids import new_trace
from runtime.telemetry.spans.sampling import Sampling, SamplingDecision
from runtime.telemetry.spans.scope import Scope

Extra = dict[str, AttributeValue] | None
ParentMode = Literal["parent", "parent+link", "link"]

# The first header of a block, which is where the runtime writes it: 8 bytes of version, CRLF, then the 55 of the value.
_FIRST = re.compile(rb"NATS/1.0\r\ntraceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-01\r").match
_ZERO_TRACE, _ZERO_SPAN = b"0" * 32, b"0" * 16

# Compared on the hot path, where an attribute of an enum costs a look-up each time.
_PROPAGATE, _DROP, _RECORD = SamplingDecision.PROPAGATE, SamplingDecision.DROP, SamplingDecision.RECORD


class Template(SpanSpec):
    """Starts the spans of one operation of one service. Made once by `ServiceTracer.template`, used for each message.

    `linked` adds a link to the remote parent (asynchronous hops), `rooted` starts a new trace that only links to it.
    `encoding` belongs to `otlp.py`.
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
        self.name = name
        self.kind = kind
        self.attributes = attributes
        self.linked = parent_mode == "parent+link"
        self.rooted = parent_mode == "link"
        self.put = recorder.put
        self.encoding: object | None = None

    @property
    def records(self) -> bool:
        """Whether spans may be recorded at all: where not, attributes that vary need not be put together."""
        return self.recorder.sampling.root is not _PROPAGATE

    def receive(self, block: bytes | None, attributes: Extra = None) -> LeanSpan | PropagatedSpan:
        """Start the span of a received message under the parent that its header block names, or as a new root."""
        sampling = self.recorder.sampling
        if sampling.root is _PROPAGATE:
            # `find` costs half of `in`; without the first letter it finds both spellings that are on the wire.
            if block is None or block.find(b"raceparent:") < 0:
                return NO_SPAN
            return PropagatedSpan(block)
        if block is not None:
            flag = block[77:79]
            if flag == b"1\r":
                if sampling.sampled is _RECORD and not self.rooted and (ids := _FIRST(block)) is not None:
                    trace, parent = ids.groups()
                    if trace != _ZERO_TRACE and parent != _ZERO_SPAN:
                        # A tracestate has an "=", and few other headers do: one byte is looked for instead of a name.
                        span = LeanSpan(self, trace, parent, True, block if 61 in block else None, attributes)
                        if self.recorder.processors:
                            self._started(span)
                        return span
            elif flag == b"0\r" and sampling.unsampled is _DROP and block.startswith(b"traceparent: 00-", 10):
                return UnsampledSpan(block)
        elif sampling.root is _RECORD:
            return self._root(attributes)
        return self._receive(block, attributes)

    def start(self, parent: Span | None = None, attributes: Extra = None, links: Sequence[Link] = ()) -> Span:
        """Start a span under `parent`, any OpenTelemetry span of this process, or as the root of a new trace."""
        sampling = self.recorder.sampling
        if sampling.root is _PROPAGATE:
            return NO_SPAN if parent is None else parent
        if type(parent) is LeanSpan and sampling.sampled is _RECORD:
            span = LeanSpan(self, parent.trace, parent.id, False, parent.state_block, attributes)
            if links or self.recorder.processors:
                self._started(span, links)
            return span
        if parent is None and sampling.root is _RECORD:
            return self._root(attributes, links)
        if isinstance(parent, UnsampledSpan) and sampling.unsampled is _DROP:
            return parent
        context = None if parent is None else parent.get_span_context()
        if context is None or not context.is_valid:
            return self._decide(None, None, False, attributes, links)
        return self._decide(_parent_of(context), None, False, attributes, links)

    def child(self, attributes: Extra = None, links: Sequence[Link] = ()) -> Span:
        """Start a span under the current span of this task; a root where there is none."""
        return self.start(current(), attributes, links)

    def _root(self, attributes: Extra, links: Sequence[Link] = ()) -> LeanSpan:
        span = LeanSpan(self, new_trace(), None, False, None, attributes)
        if links or self.recorder.processors:
            self._started(span, links)
        return span

    def _receive(self, block: bytes | None, attributes: Extra) -> LeanSpan | PropagatedSpan:
        parent = extract(block)
        if parent is None or not self.rooted:
            return self._decide(parent, block, True, attributes, ())
        link = Link(span_context(parent.trace, parent.span, sampled=parent.sampled, remote=True))
        return self._decide(None, None, False, attributes, (link,))

    def _decide(
        self,
        parent: Parent | None,
        block: bytes | None,
        remote: bool,
        attributes: Extra,
        links: Sequence[Link],
    ) -> LeanSpan | PropagatedSpan:
        sampling = self.recorder.sampling
        decision = sampling.root if parent is None else sampling.sampled if parent.sampled else sampling.unsampled
        if parent is not None:
            trace, state = parent.trace, parent.tracestate
        else:
            trace, state = new_trace(), ""
        if decision is SamplingDecision.PER_SPAN and sampling.sampler is None:
            decision = _RECORD if sampling.below(trace) else _DROP
        elif decision is SamplingDecision.PER_SPAN:
            decision, attributes, state = self._ask(sampling, parent, trace, remote, attributes, links)
        if decision is not _RECORD:
            return UnsampledSpan.under(parent, trace, state)
        state_block = b"NATS/1.0\r\ntracestate: " + state.encode() + b"\r\n\r\n" if state else None
        above = None if parent is None else parent.span
        span = LeanSpan(self, trace, above, remote and parent is not None, state_block, attributes)
        if links or self.recorder.processors:
            self._started(span, links)
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
        assert sampling.sampler is not None
        context = Context()
        if parent is not None:
            above = span_context(
                parent.trace, parent.span, sampled=parent.sampled, remote=remote, state=parent.tracestate
            )
            context = propagation.set_span_in_context(NonRecordingSpan(above), context)
        given = {**self.attributes, **(attributes or {})}
        result = sampling.sampler.should_sample(context, int(trace, 16), self.name, self.kind, given, links)
        state = result.trace_state.to_header() if result.trace_state else ""
        if not result.decision.is_sampled():
            return _DROP, attributes, state
        return _RECORD, {**(attributes or {}), **result.attributes} or None, state

    def _started(self, span: LeanSpan, links: Sequence[Link] = ()) -> None:
        for link in links:
            span.add_link(link.context, link.attributes)
        for processor in self.recorder.processors:
            processor.on_start(span)  # pyright: ignore[reportArgumentType]


def _parent_of(context: SpanContext) -> Parent:
    return Parent(
        b"%032x" % context.trace_id,
        b"%016x" % context.span_id,
        context.trace_flags.sampled,
        context.trace_state.to_header(),
    )
