"""The output of `tap`: a line for each event, for people or for programs."""

import asyncio
import base64
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from runtime.actor.since import FIRST, NEW
from runtime.cli.client import connected
from runtime.cli.failures import TIMEOUT, Failure
from runtime.cli.output import echo, print_json_line, print_note
from runtime.client.tap import make_tap
from runtime.client.tapped import TappedEvent
from runtime.host.config import Configuration
from runtime.nats.jetstream.client import JetStream
from runtime.wire.cloudevents import rfc3339
from runtime.wire.printable import printable

_NARROW: Final = 150
"""Columns of a terminal below which ids are cut, so that there is room for the body."""
_SHORT: Final = 8
"""Characters of a cut id. The first ones of an id tell its time."""


async def show(
    configuration: Configuration,
    subjects: Sequence[str],
    where: str | None,
    trace: str,
    since: float | None,
    count: int | None,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Print events until there are `count`, or `timeout` seconds are over.

    Raises:
        DeclarationError: A subject, the pattern or the trace is invalid.
        Failure: There were fewer than `count` events in time.
        ActorError, TimeoutError: The server refuses to serve the events, or does not answer.
    """
    start = NEW if since is None else FIRST if since == 0 else rfc3339(since)
    seen = 0
    async with connected(configuration) as connection:
        namespace = configuration.settings.namespace
        tap = make_tap(JetStream(connection), namespace, subjects, where, trace, start, print_note, "tap")
        async with tap:
            print_note("waiting for events (Ctrl-C ends)")
            deadline = asyncio.timeout(timeout)
            try:
                async with deadline:
                    async for event in tap:
                        _print(event, as_json)
                        seen += 1
                        if seen == count:
                            return
            except TimeoutError:
                if not deadline.expired():
                    raise
    if count is not None:
        raise Failure(f"{seen} of {count} events came within {timeout:g} s", TIMEOUT)


def _print(event: TappedEvent, as_json: bool) -> None:
    if as_json:
        print_json_line(cloud_event(event))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        echo(line(event, width))


def line(event: TappedEvent, width: int | None) -> str:
    """Return an event as one line: time, type, key, id, trace and body, cut at `width` characters; None for no limit."""
    narrow = width is not None and width < _NARROW
    time = datetime.fromtimestamp(event.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = f"({event.fault})" if event.fault else " ".join(event.payload.decode("utf-8", "backslashreplace").split())
    fields = (
        time[11:] if narrow else time,
        event.type,
        "-" if event.key is None else event.key or '""',
        event.id[:_SHORT] if narrow else event.id,
        (event.trace[:_SHORT] if narrow else event.trace) or "-",
        body,
    )
    text = printable("  ".join(fields))
    return text if width is None or len(text) <= width else f"{text[: width - 1]}…"


def cloud_event(event: TappedEvent) -> dict[str, Any]:
    """Return an event in the structured mode of CloudEvents 1.0. A body that is not JSON is in `data_base64`."""
    if event.fault:
        data: dict[str, Any] = {"data_base64": base64.b64encode(event.payload).decode()}
    else:
        data = {"data": msgspec.Raw(msgspec.json.format(event.payload, indent=-1))}  # on one line
    traced = {
        name: event.headers[name] for name in ("traceparent", "tracestate") if event.trace and name in event.headers
    }
    return {
        **event.extensions,
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": rfc3339(event.time),
        **({} if event.key is None else {"subject": event.key}),
        "datacontenttype": "application/octet-stream" if event.fault else "application/json",
        **traced,
        **data,
    }
