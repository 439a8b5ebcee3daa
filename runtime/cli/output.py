"""What commands print: JSON for machines, indented on a terminal, and aligned columns for people."""

import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec


def print_json(value: Any) -> None:
    """Print a value, or bytes that are JSON already: one line, or indented where stdout is a terminal."""
    text = bytes(value) if isinstance(value, bytes) else msgspec.json.encode(value)
    if sys.stdout.isatty():
        try:
            text = msgspec.json.format(text, indent=2)
        except msgspec.DecodeError:
            click.echo(text)  # not JSON: another framework's reply, as it came
            return
    click.echo(text)


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns under their headings."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for number, row in enumerate(cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)


def say(text: str) -> None:
    """Print what is not the answer: to stderr."""
    click.echo(text, err=True)
