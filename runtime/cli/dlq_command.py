"""`dlq`: look at dead letters, send them again, drop them."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Final

import click

from runtime.cli.failures import usage
from runtime.cli.flags import configured
from runtime.host.config import Configuration

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LISTED: Final = 100


@click.group("dlq")
def command() -> None:
    """Look at dead letters: events and timers that a reaction gave up; send them again, or drop them.

    A dead letter is called service:sequence, as in orders:17.
    """


def _selecting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the flags that select dead letters, as `selection` (None where none is given) and `limit`."""

    @wraps(function)
    def selected(*arguments: Any, service: tuple[str, ...], event: str, reason: str, **others: Any) -> Any:
        from runtime.storage.dead_letters import Selection

        since, before = others.pop("since"), others.pop("before")
        chosen = Selection(service, event, reason, since or 0.0, before or float("inf"))
        return function(*arguments, selection=chosen if chosen != Selection() else None, **others)

    decorated: Callable[..., Any] = selected
    for option in reversed(
        (
            click.option("--service", multiple=True, metavar="NAME", help="Only those of this service; repeatable."),
            click.option(
                "--event", default="", metavar="NAME", help="Only those of this event, or command of a timer."
            ),
            click.option(
                "--reason", default="", callback=_pattern, metavar="REGEX", help="Only those whose reason has this."
            ),
            click.option("--since", callback=_moment, metavar="WHEN", help="2h (ago), or 2026-03-01T12:00Z, or later."),
            click.option("--before", callback=_moment, metavar="WHEN", help="Only those that are older."),
            click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many, the oldest first."),
        )
    ):
        decorated = option(decorated)
    return decorated


def _pattern(_: click.Context, __: click.Parameter, text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise click.BadParameter(f"{text!r} is no regular expression: {error}") from None
    return text


def _moment(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text):
        return time.time() - float(found[1]) * _UNITS[found[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r}: write 30m, 2h, 7d, or a time as 2026-03-01T12:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@command.command("ls")
@_selecting
@click.option("--all", "all_", is_flag=True, help=f"All of them, where there are more than {_LISTED}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configured("nats.url", "namespace")
def list_(configuration: Configuration, selection: Any, limit: int | None, all_: bool, as_json: bool) -> None:
    """List dead letters, the oldest first."""
    from runtime.cli.deadletters import list_letters

    asyncio.run(list_letters(configuration, selection, limit or (None if all_ else _LISTED), as_json))


@command.command("show")
@click.argument("letters", nargs=-1, required=True, metavar="SERVICE:SEQUENCE...")
@configured("nats.url", "namespace")
def show(configuration: Configuration, letters: tuple[str, ...]) -> None:
    """Print dead letters in full, as JSON."""
    from runtime.cli.deadletters import show_letters

    asyncio.run(show_letters(configuration, letters))


@command.command("redrive")
@click.argument("letters", nargs=-1, metavar="[SERVICE:SEQUENCE]...")
@_selecting
@click.option("--all", "all_", is_flag=True, help="All dead letters.")
@configured("nats.url", "namespace")
def redrive(
    configuration: Configuration, letters: tuple[str, ...], selection: Any, limit: int | None, all_: bool
) -> None:
    """Send dead letters again, each to the reaction that gave it up and no other, under its old id.

    What was done already is not done twice; what fails again becomes a dead letter again. A service that is not running
    gets them when it starts.
    """
    from runtime.cli.deadletters import redrive_letters

    _act(redrive_letters, configuration, letters, selection, limit, all_)


@command.command("drop")
@click.argument("letters", nargs=-1, metavar="[SERVICE:SEQUENCE]...")
@_selecting
@click.option("--all", "all_", is_flag=True, help="All dead letters.")
@configured("nats.url", "namespace")
def drop(configuration: Configuration, letters: tuple[str, ...], selection: Any, limit: int | None, all_: bool) -> None:
    """Delete dead letters for good."""
    from runtime.cli.deadletters import drop_letters

    _act(drop_letters, configuration, letters, selection, limit, all_)


def _act(
    act: Callable[[Configuration, tuple[str, ...], Any, int | None], Awaitable[None]],
    configuration: Configuration,
    letters: tuple[str, ...],
    selection: Any,
    limit: int | None,
    all_: bool,
) -> None:
    if letters and (selection is not None or limit is not None or all_):
        usage("give names, or flags that select, but not both")
    if not letters and selection is None and not all_:
        usage("which ones? Give names (orders:17), flags that select, or --all")

    async def run() -> None:
        await act(configuration, letters, selection, limit)

    asyncio.run(run())
