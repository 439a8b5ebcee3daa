"""Reads a trace from the query service of Jaeger and prints it as a tree."""

import asyncio
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import msgspec
from opentelemetry.trace import SpanKind

from runtime.errors import ActorError
from runtime.telemetry import SpanRecord
from runtime.telemetry.tree import render

PATIENCE = 15.0
"""Seconds to wait for the spans. Exporters send them in batches, some seconds late."""

_PAUSE = 1.0
"""Seconds between two requests; without a new span in that time, the trace is taken for complete."""


async def trace_tree(url: str, trace_id: str) -> str:
    """Return a trace as text, as soon as it is complete.

    Args:
        url: The address of Jaeger, for example http://localhost:16686.
        trace_id: The id of the trace, in hexadecimal digits.

    Raises:
        ActorError: Jaeger has no such trace in time.
        OSError: Jaeger does not answer.
    """
    spans: list[SpanRecord] = []
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while loop.time() < deadline:
        before, spans = len(spans), await asyncio.to_thread(_fetch, f"{url.rstrip('/')}/api/traces/{trace_id}")
        if spans and len(spans) == before:
            return render(spans, trace_id=trace_id)
        await asyncio.sleep(_PAUSE)
    if spans:
        return render(spans, trace_id=trace_id)
    raise ActorError(f"Jaeger at {url} has no trace {trace_id} yet")


def _fetch(address: str) -> list[SpanRecord]:
    if not address.startswith(("http://", "https://")):
        raise ActorError(f"{address}: write the address of Jaeger as http://host:16686")
    try:
        with urlopen(address, timeout=5) as answer:
            content: Any = msgspec.json.decode(answer.read())
    except HTTPError as error:
        with error:
            if error.code == 404:
                return []
            raise
    return [
        _record(span, trace["processes"]) for trace in content.get("data") or () for span in trace.get("spans") or ()
    ]


def _record(span: Any, processes: Any) -> SpanRecord:
    tags = {tag["key"]: tag["value"] for tag in span["tags"]}
    references = span.get("references") or ()
    parent = next((ref["spanID"] for ref in references if ref["refType"] == "CHILD_OF"), None)
    start = int(span["startTime"]) * 1000
    return SpanRecord(
        service=processes[span["processID"]]["serviceName"],
        name=span["operationName"],
        kind=SpanKind[str(tags.get("span.kind", "internal")).upper()],
        trace_id=span["traceID"],
        span_id=span["spanID"],
        parent_id=parent,
        start=start,
        end=start + int(span["duration"]) * 1000,
        attributes=tags,
        events=(),
        links=(),
        status="ERROR" if tags.get("error") else "UNSET",
        description=None,
    )
