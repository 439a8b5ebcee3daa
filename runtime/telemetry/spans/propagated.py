"""Spans that are not recorded, and pass on the trace context of their message."""

from collections.abc import Mapping

import msgspec
from opentelemetry.trace.span import INVALID_SPAN_CONTEXT, SpanContext
from opentelemetry.trace.status import Status, StatusCode
from opentelemetry.util.types import Attributes, AttributeValue

from runtime.telemetry.spans.context import Parent, extract, span_context, trace_lines
from runtime.telemetry.spans.lean_span import SpanStruct
from runtime.telemetry.spans.random_ids import new_id, new_trace


class PropagatedSpan(SpanStruct, gc=False, eq=False):
    """A span that records nothing and passes on the trace context of its message unchanged.

    The header block is read when the context is first needed, so a message that is not sampled costs one small object.
    """

    block: bytes | None = None
    """The header block of the message."""
    cached: Parent | msgspec.UnsetType | None = msgspec.UNSET
    """The context once it is read; None if the block carries none."""

    def parent_context(self) -> Parent | None:
        """Return the context to pass on, or None; it is read from the block on the first call."""
        if self.cached is msgspec.UNSET:
            self.cached = self.resolve()
        return self.cached

    def resolve(self) -> Parent | None:
        """Read the context from the block."""
        return extract(self.block)

    def lines(self) -> bytes:
        """Return the header lines that pass the context on; b"" if there is none."""
        parent = self.parent_context()
        if parent is None:
            return b""
        return trace_lines(parent)

    def get_span_context(self) -> SpanContext:
        """Return the context to pass on, or the invalid one."""
        parent = self.parent_context()
        if parent is None:
            return INVALID_SPAN_CONTEXT
        return span_context(
            parent.trace, parent.span, flags=parent.flags, remote=self.block is not None, state=parent.tracestate
        )

    def is_recording(self) -> bool:
        """Return False."""
        return False

    def end(self, end_time: int | None = None) -> None:
        """Do nothing."""

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Do nothing."""

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Do nothing."""

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Do nothing."""

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Do nothing."""

    def update_name(self, name: str) -> None:
        """Do nothing."""

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Do nothing."""

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Do nothing."""


class UnsampledSpan(PropagatedSpan, gc=False, eq=False):
    """A span that the sampler dropped.

    Without a valid parent it is the root of a trace that no service records. Its ids are then created when they are
    first needed. They are sent with the flag "not sampled", so that the services downstream do not start a trace of
    their own.
    """

    def resolve(self) -> Parent:
        """Read the context from the block, or create unsampled ids."""
        return extract(self.block) or Parent(new_trace(), new_id(), False, "")

    @classmethod
    def under(cls, parent: Parent | None, trace: bytes, state: str) -> "UnsampledSpan":
        """Return the dropped span of a trace.

        Args:
            parent: The parent, whose span id is passed on; None for the root of the trace.
            trace: The trace id.
            state: The tracestate to pass on, or "".
        """
        if parent is None:
            return cls(None, Parent(trace, new_id(), False, state))
        return cls(None, parent._replace(sampled=False, tracestate=state))


NO_SPAN = PropagatedSpan()
"""The span of a message that carries no trace, in a process that records none."""
