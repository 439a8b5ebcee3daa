"""Log lines with the current trace: JSON for machines, short colored text for a terminal.

The formatters belong to the standard library's `logging`. Records that structlog and similar libraries pass to it
need no other setup.
"""

import logging
import sys
import time
from typing import Any, Literal, TextIO

import msgspec
from opentelemetry import trace

from runtime.faults import stack_trace
from runtime.wire.printable import printable

Format = Literal["auto", "json", "text"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
"""Attributes of every record. All others are the caller's `extra`."""
_COLORS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


def setup_logging(
    level: str | int = "INFO", format: Format = "auto", stream: TextIO | None = None, *, worker: int | None = None
) -> None:
    """Send all logging to one stream. The present handlers of the root logger are removed.

    Args:
        level: The lowest level that is logged.
        format: "json", "text", or "auto", which is text on a terminal and JSON elsewhere.
        stream: The stream; stderr by default.
        worker: The number of this process among several that share the stream. Each line then has it as `worker`.

    Raises:
        ValueError: The level is unknown.
    """
    out: TextIO = sys.stderr if stream is None else stream
    text = format == "text" or (format == "auto" and out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(TextFormatter(color=out.isatty()) if text else JsonFormatter())
    if worker is not None:

        def name_worker(record: logging.LogRecord) -> bool:
            record.worker = worker
            return True

        handler.addFilter(name_worker)
    root = logging.getLogger()
    root.setLevel(level.upper() if isinstance(level, str) else level)
    for present in tuple(root.handlers):
        root.removeHandler(present)
    root.addHandler(handler)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message, trace_id, span_id, trace_flags and extras.

    The time is in UTC, in the format of RFC 3339.
    """

    _encode = msgspec.json.Encoder(enc_hook=str, order=None).encode

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON. A value that JSON has no type for is written as text."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_trace(),
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _STANDARD and key[0] != "_")
        if error := _error(record):
            line["exception"] = error
        if record.stack_info:
            line["stack"] = record.stack_info
        try:
            return JsonFormatter._encode(line).decode()
        except (TypeError, ValueError, RecursionError):
            # A key is not a string, or text is not valid Unicode: the line matters more than its extras.
            return JsonFormatter._encode({key: repr(value) for key, value in line.items()}).decode()


class TextFormatter(logging.Formatter):
    """Formats a record as text: time, level, logger, message, extras (key=value), first half of the trace id."""

    def __init__(self, *, color: bool) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line, followed by the lines of its exception."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname:<7}"
        extras = [printable(f"{k}={v}") for k, v in vars(record).items() if k not in _STANDARD and k[0] != "_"]
        trace_id = _trace().get("trace_id")
        if trace_id:
            extras.append(f"trace={trace_id[:16]}")
        tail = "  " + " ".join(extras) if extras else ""
        name = record.name
        if self._color:
            level = f"\x1b[{_COLORS.get(record.levelname, '0')}m{level}\x1b[0m"
            name, tail = f"\x1b[2m{name}\x1b[0m", f"\x1b[2m{tail}\x1b[0m" if tail else ""
        line = f"{clock}.{int(record.msecs):03d} {level} {name}: {_indented(record.getMessage())}{tail}"
        if error := _error(record):
            line += "\n" + printable(error, lines=True)
        return line + "\n" + printable(record.stack_info, lines=True) if record.stack_info else line


def _indented(text: str) -> str:
    """Return a message for a terminal. Its later lines are indented, so that they do not look like lines of the log."""
    return printable(text, lines=True).replace("\n", "\n    ")


def _error(record: logging.LogRecord) -> str:
    """Return the stack trace of a record's exception; empty if it has none."""
    error = record.exc_info[1] if record.exc_info else None
    return stack_trace(error).rstrip("\n") if error is not None else ""


def _trace() -> dict[str, str]:
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "trace_flags": f"{context.trace_flags:02x}",
    }


def _time(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"
