"""The names of rules and targets on the command line, and the options that the commands of both have."""

import re
from collections.abc import Callable
from typing import Any

import click

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}").fullmatch
"""Match `runtime.router.rule.Name`, whose module would load the router for each completion."""


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def expect(kind: str) -> Callable[[Any], Any]:
    """Return the option with the version that a rule or target (`kind`) must have."""
    text = f"Only if the {kind} has version N; 0 for a {kind} that does not exist."
    return click.option("--expect", type=click.IntRange(0), metavar="N", help=text)


def kept_name(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """Return the value of an argument with the name of a rule or target. Another text ends the command."""
    return None if text is None else checked_name(text)


def checked_name(text: str) -> str:
    """Return the name of a rule or target. Raises `BadParameter` for another text."""
    if _NAME(text) is None:
        raise click.BadParameter(
            f"{text[:80]!r}: a name is a lower-case letter, and then letters, digits, - and _: 64 characters at most"
        )
    return text
