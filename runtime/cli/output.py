"""Output of commands: all of it goes through this module, which lets no text from outside control the terminal.

Results are JSON, indented on a terminal, or tables with aligned columns. JSON that is not written to a terminal is printed
byte for byte.
"""

import re
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from runtime.wire.printable import printable, printable_json

_MARK = secrets.token_hex(8)
"""Begins the marks of `style`, which become escape sequences in `echo`. Text from outside cannot contain it."""

_mark = re.compile(rf"<{_MARK}:([0-9;]+)>").sub


def style(text: str, *, bold: bool = False, dim: bool = False, fg: str | None = None) -> str:
    """Return text for `echo` that a terminal shows in this style."""
    styled = click.style("|", bold=bold or None, dim=dim or None, fg=fg)
    before, _, after = re.sub(r"\x1b\[([0-9;]+)m", rf"<{_MARK}:\1>", styled).partition("|")
    return f"{before}{text}{after}"


def echo(text: str, *, err: bool = False) -> None:
    """Print text to stdout, or to stderr. Control characters in it are printed as escapes, line feeds aside."""
    click.echo(shown(text), err=err)


def print_json(value: Any) -> None:
    """Print a value as JSON, or bytes that are JSON already: on one line, or indented if stdout is a terminal."""
    text = bytes(value) if isinstance(value, bytes) else msgspec.json.encode(value)
    if not sys.stdout.isatty():
        click.echo(text)
        return
    try:
        click.echo(printable_json(msgspec.json.format(text, indent=2).decode("utf-8", "backslashreplace")))
    except msgspec.DecodeError:
        echo(text.decode("utf-8", "backslashreplace"))  # a reply of another framework, which is not JSON


def print_json_line(value: Any) -> None:
    """Print a value as JSON on one line, on a terminal too."""
    text = msgspec.json.encode(value)
    click.echo(printable_json(text.decode()) if sys.stdout.isatty() else text)


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns below their headings."""
    for line in table_lines(head, rows):
        echo(line)


def table_lines(head: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> list[str]:
    """Return the lines of a table for `echo`: rows in columns below their headings, cut at `width` characters."""
    cells = [list(head), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip()[:width] for row in cells
    ]
    return [style(lines[0], bold=True), *lines[1:]]


def shown(text: str) -> str:
    """Return text as `echo` prints it: with its styles, and with control characters as escapes."""
    return _mark("\x1b[\\1m", printable(text, lines=True))


def print_note(text: str) -> None:
    """Print a line that is not part of the result, to stderr."""
    echo(text, err=True)


def time_text(seconds: float) -> str:
    """Return Unix seconds as RFC 3339 in UTC, to a second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
