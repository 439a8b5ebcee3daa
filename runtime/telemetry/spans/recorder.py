"""Where ended spans go: to the exporter, to a bounded memory for tests, and to SDK span processors."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.telemetry.spans.lean_span import LeanSpan
from runtime.telemetry.spans.sampling import Sampling, SamplingDecision

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

MEMORY_LIMIT = 100_000


class Recorder:
    """Takes each span at its end, in the thread that ended it, and never waits.

    What the exporter has no room for is dropped and counted in `dropped`. The memory keeps the newest `MEMORY_LIMIT` spans.
    """

    __slots__ = (
        "_convert",
        "_wanted",
        "_watched",
        "dropped",
        "encode",
        "memory",
        "processors",
        "queue",
        "sampling",
        "slice",
    )

    def __init__(self, sampling: Sampling, *, in_memory: bool = False) -> None:
        self._wanted = sampling
        self.sampling = sampling if in_memory else Sampling.nothing()
        self.queue: list[LeanSpan] | None = None
        self.slice = 0
        self.encode: Callable[[], None] = _nothing
        self.dropped = 0
        self.memory: deque[LeanSpan] | None = deque(maxlen=MEMORY_LIMIT) if in_memory else None
        self.processors: tuple[SpanProcessor, ...] = ()
        self._convert: Callable[[LeanSpan], object] | None = None
        self._watched = in_memory

    @property
    def active(self) -> bool:
        """True where somebody wants spans."""
        return self.sampling.root is not SamplingDecision.PROPAGATE

    def export_to(self, queue: list[LeanSpan], slice: int, encode: Callable[[], None]) -> None:
        """Put spans into `queue`, and call `encode` when it holds `slice`, in the thread that ended the last of them."""
        self.queue, self.slice, self.encode = queue, slice, encode
        self.sampling = self._wanted

    def add_processor(self, processor: "SpanProcessor", convert: Callable[[LeanSpan], object]) -> None:
        """Tell `processor` of each span: `on_start` with the span itself, `on_end` with what `convert` makes of it."""
        self._convert = convert
        self._watched = True
        self.processors = (*self.processors, processor)
        self.sampling = self._wanted

    def put(self, span: LeanSpan) -> None:
        """Take an ended span."""
        queue = self.queue
        if queue is not None:
            queue.append(span)
            if len(queue) >= self.slice:
                self.encode()
        if self._watched:
            self._show(span)

    def _show(self, span: LeanSpan) -> None:
        if self.memory is not None:
            self.memory.append(span)
        if self._convert is not None:
            readable = self._convert(span)
            for processor in self.processors:
                processor.on_end(readable)  # pyright: ignore[reportArgumentType]


def _nothing() -> None:
    pass
