"""Spans that record nothing, and pass on the trace context that their message came with."""

from collections.abc import Mapping

import msgspec
from opentelemetry.trace.span import INVALID_SPAN_CONTEXT, SpanContext
from opentelemetry.trace.status import Status, StatusCode
from opentelemetry.util.types import Attributes, AttributeValue

from runtime.telemetry.spans.context import Parent, extract, span_context
from runtime.telemetry.spans.lean_span import SpanStruct
from runtime.telemetry.spans.random_ids import new_id, new_trace


class PropagatedSpan(SpanStruct, gc=False, eq=False):
    """A span that records nothing, and hands on the trace context of its message unchanged.

    The header block is not looked at before somebody asks: an unsampled request pays for one small object.
    """

    block: bytes | None = None
    known: Parent | msgspec.UnsetType | None = msgspec.UNSET

    def context(self) -> Parent | None:
        """The parent that came, or None; read from the block at first use."""
        if self.known is msgspec.UNSET:
            self.known = self.resolve()
        return self.known

    def resolve(self) -> Parent | None:
        """The context to carry."""
        return extract(self.block)

    def lines(self) -> bytes:
        """The header lines that carry the context on; b"" where there is none."""
        parent = self.context()
        if parent is None:
            return b""
        line = b"-".join((b"traceparent: 00", parent.trace, parent.span, b"01\r\n" if parent.sampled else b"00\r\n"))
        return line + b"tracestate: " + parent.tracestate.encode() + b"\r\n" if parent.tracestate else line

    def get_span_context(self) -> SpanContext:
        """The carried context, or the invalid one."""
        parent = self.context()
        if parent is None:
            return INVALID_SPAN_CONTEXT
        return span_context(
            parent.trace, parent.span, sampled=parent.sampled, remote=self.block is not None, state=parent.tracestate
        )

    def is_recording(self) -> bool:
        """Never."""
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
    """A span that the sampler refused: without a valid parent it is the root of a trace that nobody records.

    Its ids are made when somebody asks, and say "not sampled", so that no service further on starts a trace of its own.
    """

    def resolve(self) -> Parent:
        """The parent that came, or new unsampled ids."""
        return extract(self.block) or Parent(new_trace(), new_id(), False, "")

    @classmethod
    def under(cls, parent: Parent | None, trace: bytes, state: str) -> "UnsampledSpan":
        """The refused span in `trace`: under `parent`, or as its root."""
        return cls(None, Parent(trace, new_id() if parent is None else parent.span, False, state))


NO_SPAN = PropagatedSpan()
"""No trace at all: nothing came and nothing is exported."""
