"""The recorder of a process: it passes ended spans to the exporter, to memory for tests, and to SDK span processors."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.telemetry.spans.lean_span import LeanSpan
from runtime.telemetry.spans.limits import SpanLimits
from runtime.telemetry.spans.sampling import Sampling, SamplingDecision

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

MEMORY_LIMIT = 100_000
"""Spans kept in memory; older ones are discarded."""


class Recorder:
    """Takes each span when it ends, in the thread that ends it, and never waits.

    Without an exporter, memory and span processors, nothing is recorded. `sampling` is then disabled, so that
    templates create no lean spans.
    """

    __slots__ = (
        "_configured_sampling",
        "_convert",
        "_observed",
        "dropped",
        "encode",
        "limits",
        "memory",
        "processors",
        "queue",
        "sampling",
        "slice_size",
    )

    def __init__(self, sampling: Sampling, *, in_memory: bool = False, limits: SpanLimits | None = None) -> None:
        self.limits = limits or SpanLimits()
        self._configured_sampling = sampling
        self.sampling = sampling if in_memory else Sampling.disabled()
        """The decisions in force."""
        self.queue: list[LeanSpan] | None = None
        """Ended spans that the exporter has not encoded yet; None without an exporter."""
        self.slice_size = 0
        """The length of the queue at which `encode` is called."""
        self.encode: Callable[[], None] = _encode_nothing
        self.dropped = 0
        """The number of spans that the exporter had no room for."""
        self.memory: deque[LeanSpan] | None = deque(maxlen=MEMORY_LIMIT) if in_memory else None
        self.processors: tuple[SpanProcessor, ...] = ()
        self._convert: Callable[[LeanSpan], object] | None = None
        self._observed = in_memory
        """Whether spans go to memory or to a processor."""

    @property
    def active(self) -> bool:
        """Whether spans are recorded."""
        return self.sampling.root is not SamplingDecision.PROPAGATE

    def export_to(self, queue: list[LeanSpan], slice_size: int, encode: Callable[[], None]) -> None:
        """Append ended spans to a queue from now on.

        Args:
            queue: The list, which `encode` empties.
            slice_size: The length of the queue at which `encode` is called.
            encode: A function that encodes the queue's spans. The thread that ended the last of them calls it.
        """
        self.queue, self.slice_size, self.encode = queue, slice_size, encode
        self.sampling = self._configured_sampling

    def add_processor(self, processor: "SpanProcessor", convert: Callable[[LeanSpan], object]) -> None:
        """Call a span processor for each span from now on.

        Args:
            processor: The processor. Its `on_start` gets the lean span, its `on_end` the converted one.
            convert: A function that converts an ended span to the SDK's form.
        """
        self._convert = convert
        self._observed = True
        self.processors = (*self.processors, processor)
        self.sampling = self._configured_sampling

    def stop_export(self) -> None:
        """Keep no span for the exporter from now on."""
        self.queue, self.encode = None, _encode_nothing
        if not self._observed:
            self.sampling = Sampling.disabled()

    def put(self, span: LeanSpan) -> None:
        """Take an ended span."""
        queue = self.queue
        if queue is not None:
            queue.append(span)
            if len(queue) >= self.slice_size:
                self.encode()
        if self._observed:
            self._notify(span)

    def _notify(self, span: LeanSpan) -> None:
        if self.memory is not None:
            self.memory.append(span)
        if self._convert is not None:
            readable = self._convert(span)
            for processor in self.processors:
                processor.on_end(readable)  # pyright: ignore[reportArgumentType]


def _encode_nothing() -> None:
    """Do nothing. `export_to` replaces this function by the exporter's."""
