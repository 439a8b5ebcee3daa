"""Log records as lines: JSON for machines, short and colored for a terminal, both with the current trace.

Only the standard library's `logging`; structlog's and others' records pass through it unchanged.
"""

import logging
import sys
import time
from typing import Any, Literal, TextIO

import msgspec
from opentelemetry import trace

Format = Literal["auto", "json", "text"]

# What every record has; all else was given as `extra` by the caller.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_COLORS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


def setup_logging(level: str | int = "INFO", format: Format = "auto", stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (stderr by default), in place of the handlers before.

    "auto" is text on a terminal and JSON elsewhere. Raises ValueError for a level that logging does not know.
    """
    out: TextIO = sys.stderr if stream is None else stream
    text = format == "text" or (format == "auto" and out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(TextFormatter(color=out.isatty()) if text else JsonFormatter())
    root = logging.getLogger()
    root.setLevel(level.upper() if isinstance(level, str) else level)
    for before in tuple(root.handlers):
        root.removeHandler(before)
    root.addHandler(handler)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, trace_id, span_id, trace_flags, extras."""

    _encode = msgspec.json.Encoder(enc_hook=str, order=None).encode

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; what JSON has no type for is written as its text."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_trace(),
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _STANDARD and key[0] != "_")
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        try:
            return JsonFormatter._encode(line).decode()
        except (TypeError, ValueError, RecursionError):
            # A key that is no string, a text that is no Unicode: the line matters more than its extras.
            return JsonFormatter._encode({key: repr(value) for key, value in line.items()}).decode()


class TextFormatter(logging.Formatter):
    """Time, level, logger, message, extras as key=value, and the first half of the trace id."""

    def __init__(self, *, color: bool) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, and the lines of its exception."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname:<7}"
        extras = [f"{k}={v}" for k, v in vars(record).items() if k not in _STANDARD and k[0] != "_"]
        trace_id = _trace().get("trace_id")
        if trace_id:
            extras.append(f"trace={trace_id[:16]}")
        tail = "  " + " ".join(extras) if extras else ""
        name = record.name
        if self._color:
            level = f"\x1b[{_COLORS.get(record.levelname, '0')}m{level}\x1b[0m"
            name, tail = f"\x1b[2m{name}\x1b[0m", f"\x1b[2m{tail}\x1b[0m" if tail else ""
        line = f"{clock}.{int(record.msecs):03d} {level} {name}: {record.getMessage()}{tail}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line + "\n" + record.stack_info if record.stack_info else line


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
