"""The names of rules and targets on the command line."""

import re

import click

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}").fullmatch
"""Match `runtime.router.rule.Name`, whose module would load the router for each completion."""


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
