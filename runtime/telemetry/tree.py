"""A trace as a tree of text lines: service, span, kind and duration of each span.

Branches of events are drawn differently from those of synchronous calls.
"""

from collections import Counter
from collections.abc import Sequence

from opentelemetry.trace import SpanKind

from runtime.telemetry import semconv
from runtime.telemetry.memory import SpanRecord
from runtime.wire.printable import printable

_ASYNC = SpanKind.CONSUMER
_COLUMNS = 76
"""The column at which the kind of a span starts."""


def render(spans: Sequence[SpanRecord], *, trace_id: str | None = None, rich: bool = False) -> str:
    """Return the spans of one trace as lines of text.

    A branch drawn `├─` is synchronous: its parent waits for it. A branch drawn `├╌` handles an event and runs
    independently. Times are relative to the start of the trace.

    Args:
        spans: Ended spans, of any number of traces.
        trace_id: The trace to draw; the one with the most spans by default.
        rich: Whether to add the markup of rich to services, durations and errors.
    """
    if trace_id is None:
        most = Counter(span.trace_id for span in spans).most_common(1)
        trace_id = most[0][0] if most else None
    chosen = sorted((span for span in spans if span.trace_id == trace_id), key=lambda span: span.start)
    if not chosen:
        return "no spans"
    known = {span.span_id for span in chosen}
    children: dict[str | None, list[SpanRecord]] = {}
    for span in chosen:
        children.setdefault(span.parent_id if span.parent_id in known else None, []).append(span)
    trace_start = chosen[0].start
    duration = max(span.end for span in chosen) - trace_start
    services = len({span.service for span in chosen})
    lines = [f"trace {trace_id}: {len(chosen)} spans, {services} services, {_duration(duration)}"]
    # A list of pending spans in place of recursion: a chain of events may be deeper than Python's stack.
    pending = [(span, "", index == 0) for index, span in enumerate(reversed(children.get(None, [])))]
    while pending:
        span, indent, last = pending.pop()
        branch = ("└" if last else "├") + ("╌ " if span.kind is _ASYNC else "─ ")
        lines.append(_line(span, indent + branch, trace_start, rich))
        child_indent = indent + ("   " if last else "│  ")
        children_of_span = children.get(span.span_id, [])
        pending.extend((child, child_indent, index == 0) for index, child in enumerate(reversed(children_of_span)))
    return "\n".join(lines)


def _line(span: SpanRecord, branch: str, trace_start: int, rich: bool) -> str:
    kind = span.kind.name.lower()
    service, name = printable(span.service), printable(span.name)
    left = f"{branch}{service}  {name}"
    pad = " " * max(1, _COLUMNS - len(left))
    failed = span.attributes.get(semconv.ERROR_KIND) or span.attributes.get(semconv.ERROR_TYPE)
    times = f"{_duration(span.end - span.start):>9}  at {_duration(span.start - trace_start)}"
    error = f"  ! {printable(str(failed))}" if failed is not None or span.status == "ERROR" else ""
    if not rich:
        return f"{left}{pad}{kind:<8} {times}{error}"
    return f"{branch}[bold cyan]{_escaped(service)}[/]  {_escaped(name)}{pad}[dim]{kind:<8}[/] [green]{times}[/]" + (
        f"[red]{_escaped(error)}[/]" if error else ""
    )


def _escaped(text: str) -> str:
    """Escape text that rich would read as markup."""
    return text.replace("[", "\\[")


def _duration(nanoseconds: int) -> str:
    if nanoseconds < 1_000_000:
        return f"{nanoseconds / 1000:.0f} µs"
    if nanoseconds < 1_000_000_000:
        return f"{nanoseconds / 1_000_000:.1f} ms"
    return f"{nanoseconds / 1_000_000_000:.2f} s"
