"""The parts of a traced query that an untraced one does not have, each run by itself again and again."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from opentelemetry.trace import SpanKind

from runtime.telemetry import LeanSpan, Tracing, attach_context, detach, inject, response_block, semconv
from runtime.telemetry.export.otlp import encode
from runtime.wire.envelope import read_plain, write

NOTHING = "nothing"
"""The part that does nothing: the loop around each part."""
_INCLUDED = {"its block is longer": "reading a block", "it is encoded, 64 at a time": "the span ends"}
_BATCH = 64
"""Spans that are encoded together."""


class Parts:
    """Runs one part at a time, on the spans of one operation."""

    def __init__(self) -> None:
        tracing = Tracing()
        self._recorder = tracing.recorder
        self._ended: list[LeanSpan] = []
        tracing.recorder.export_to(self._ended, _BATCH, self._ended.clear)
        attributes = semconv.rpc_attributes("pricing/get_quote", ("127.0.0.1", 4222))
        template = tracing.service("bench").template("pricing/get_quote", SpanKind.SERVER, attributes)
        deadline = 1_900_000_000_000
        block, untraced = write(inject(template.child()), deadline), write(b"", deadline)
        span = template.receive(block)
        assert isinstance(span, LeanSpan)
        self._span = span
        self._parts: dict[str, Callable[[], object]] = {
            NOTHING: _nothing,
            "reading a block": lambda: read_plain(untraced, False),
            "the span begins": lambda: template.receive(block),
            "its block is longer": lambda: read_plain(block, True),
            "it is the context of the handler": self._attach,
            "the header of the reply": lambda: response_block(self._span),
            "the span ends": self._end,
            "it is encoded, 64 at a time": self._end,
        }

    async def names(self) -> dict[str, str]:
        """Return the parts, each with the one whose count is included in its own. Two are there for that only."""
        return {name: _INCLUDED.get(name, NOTHING) for name in self._parts}

    async def run(self, part: str, count: int) -> None:
        """Run a part `count` times."""
        self._recorder.export_to(self._ended, _BATCH, self._encode if "encoded" in part else self._ended.clear)
        run = self._parts[part]
        for _ in range(count):
            run()

    def _attach(self) -> None:
        detach(attach_context(self._span))

    def _end(self) -> None:
        self._span.ended = 0
        self._span.end(time.time_ns())

    def _encode(self) -> None:
        encode(self._ended)
        self._ended.clear()


def _nothing() -> None:
    """Do nothing: a call like those of the other parts."""


@asynccontextmanager
async def parts(**_: object) -> AsyncIterator[Parts]:
    """Provide the side."""
    yield Parts()
