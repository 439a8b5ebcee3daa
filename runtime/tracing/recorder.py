"""Where ended spans go: a bounded queue for the exporter, a bounded memory for tests, and SDK span processors."""

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.tracing.sampling import Choice, Sampling
from runtime.tracing.span import LeanSpan

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

MEMORY_LIMIT = 100_000


class Recorder:
    """Takes each span at its end, in the thread that ended it, and never waits.

    A full queue drops the new span and counts it in `dropped`. The memory keeps the newest `MEMORY_LIMIT` spans.
    """

    __slots__ = (
        "_convert",
        "_wanted",
        "_watched",
        "dropped",
        "limit",
        "mark",
        "memory",
        "processors",
        "queue",
        "sampling",
        "wake",
    )

    def __init__(self, sampling: Sampling, *, in_memory: bool = False) -> None:
        self._wanted = sampling
        self.sampling = sampling if in_memory else Sampling.nothing()
        self.queue: deque[LeanSpan] | None = None
        self.limit = 0
        self.mark = 0
        self.wake = threading.Event()
        self.dropped = 0
        self.memory: deque[LeanSpan] | None = deque(maxlen=MEMORY_LIMIT) if in_memory else None
        self.processors: tuple[SpanProcessor, ...] = ()
        self._convert: Callable[[LeanSpan], object] | None = None
        self._watched = in_memory

    @property
    def active(self) -> bool:
        """True where somebody wants spans."""
        return self.sampling.root is not Choice.CARRY

    def export_to(self, queue: deque[LeanSpan], *, limit: int, mark: int) -> None:
        """Put spans into `queue` up to `limit`; set `wake` when it holds `mark`."""
        self.queue, self.limit, self.mark = queue, limit, mark
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
            held = len(queue)
            if held < self.limit:
                queue.append(span)
                if held == self.mark:
                    self.wake.set()
            else:
                self.dropped += 1
        if self._watched:
            self._show(span)

    def _show(self, span: LeanSpan) -> None:
        if self.memory is not None:
            self.memory.append(span)
        if self._convert is not None:
            readable = self._convert(span)
            for processor in self.processors:
                processor.on_end(readable)  # pyright: ignore[reportArgumentType]
