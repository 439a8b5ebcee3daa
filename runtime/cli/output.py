"""Output of commands: JSON, indented on a terminal, and tables with aligned columns."""

import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec


def print_json(value: Any) -> None:
    """Print a value as JSON, or bytes that are JSON already: on one line, or indented if stdout is a terminal."""
    text = bytes(value) if isinstance(value, bytes) else msgspec.json.encode(value)
    if sys.stdout.isatty():
        try:
            text = msgspec.json.format(text, indent=2)
        except msgspec.DecodeError:
            click.echo(text)  # a reply of another framework, which is not JSON
            return
    click.echo(text)


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns below their headings."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for number, row in enumerate(cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)


def print_note(text: str) -> None:
    """Print a line that is not part of the result, to stderr."""
    click.echo(text, err=True)
