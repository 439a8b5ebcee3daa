"""A trace as a text tree: service, span, kind, duration; the asynchronous hops told apart from the synchronous."""

from collections import Counter
from collections.abc import Sequence

from opentelemetry.trace import SpanKind

from runtime.telemetry.memory import SpanRecord

_ASYNC = SpanKind.CONSUMER
_COLUMNS = 76


def render(spans: Sequence[SpanRecord], *, trace_id: str | None = None, rich: bool = False) -> str:
    """The spans of one trace (the one with most spans where `trace_id` is None) as lines of text.

    A branch drawn `├─` is synchronous: its parent waits for it. One drawn `├╌` came by an event, and runs on its own.
    `rich` puts rich's markup around services, durations and errors. Times are since the trace began.
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
    began = chosen[0].start
    whole = max(span.end for span in chosen) - began
    services = len({span.service for span in chosen})
    lines = [f"trace {trace_id}: {len(chosen)} spans, {services} services, {_duration(whole)}"]
    # A stack, and not recursion: a chain of events may be longer than Python's stack.
    waiting = [(span, "", index == 0) for index, span in enumerate(reversed(children.get(None, [])))]
    while waiting:
        span, indent, last = waiting.pop()
        branch = ("└" if last else "├") + ("╌ " if span.kind is _ASYNC else "─ ")
        lines.append(_line(span, indent + branch, began, rich))
        below = indent + ("   " if last else "│  ")
        under = children.get(span.span_id, [])
        waiting.extend((child, below, index == 0) for index, child in enumerate(reversed(under)))
    return "\n".join(lines)


def _line(span: SpanRecord, branch: str, began: int, rich: bool) -> str:
    kind = span.kind.name.lower()
    left = f"{branch}{span.service}  {span.name}"
    pad = " " * max(1, _COLUMNS - len(left))
    failed = span.attributes.get("error.type")
    times = f"{_duration(span.end - span.start):>9}  at {_duration(span.start - began)}"
    error = f"  ! {failed}" if failed is not None or span.status == "ERROR" else ""
    if not rich:
        return f"{left}{pad}{kind:<8} {times}{error}"
    return (
        f"{branch}[bold cyan]{_plain(span.service)}[/]  {_plain(span.name)}{pad}[dim]{kind:<8}[/] [green]{times}[/]"
        + (f"[red]{_plain(error)}[/]" if error else "")
    )


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def _duration(nanoseconds: int) -> str:
    if nanoseconds < 1_000_000:
        return f"{nanoseconds / 1000:.0f} µs"
    if nanoseconds < 1_000_000_000:
        return f"{nanoseconds / 1_000_000:.1f} ms"
    return f"{nanoseconds / 1_000_000_000:.2f} s"
