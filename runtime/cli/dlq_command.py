"""`dlq`: lists, shows, redrives and drops dead letters."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final

import click

from runtime.cli import completion
from runtime.cli.failures import usage
from runtime.cli.flags import configured, moment
from runtime.host.config import Configuration

_LISTED: Final = 100
"""Number of dead letters that `ls` prints by default."""


@click.group("dlq")
def command() -> None:
    """List, show, redrive or drop dead letters: events and timers whose handler failed in every attempt.

    A dead letter is named service:sequence, for example orders:17.
    """


def _selecting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that select dead letters, passed as `selection` (None if no flag is given) and `limit`."""

    @wraps(function)
    def selected(*arguments: Any, service: tuple[str, ...], event: str, reason: str, **others: Any) -> Any:
        from runtime.storage.dead_letters import Selection

        since, before = others.pop("since"), others.pop("before")
        chosen = Selection(service, event, reason, since or 0.0, before or float("inf"))
        return function(*arguments, selection=chosen if chosen != Selection() else None, **others)

    decorated: Callable[..., Any] = selected
    for option in reversed(
        (
            click.option(
                "--service",
                multiple=True,
                metavar="NAME",
                shell_complete=completion.actors,
                help="Only letters of this service; repeatable.",
            ),
            click.option(
                "--event", default="", metavar="NAME", help="Only letters of this event, or of the command of a timer."
            ),
            click.option(
                "--reason", default="", callback=_pattern, metavar="REGEX", help="Only letters whose reason matches."
            ),
            click.option(
                "--since",
                callback=moment,
                metavar="WHEN",
                help="Only letters from this time on: 2h (ago), or 2026-03-01T12:00Z.",
            ),
            click.option("--before", callback=moment, metavar="WHEN", help="Only older letters."),
            click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N letters, oldest first."),
        )
    ):
        decorated = option(decorated)
    return decorated


def _pattern(_: click.Context, __: click.Parameter, text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise click.BadParameter(f"{text!r} is not a regular expression: {error}") from None
    return text


@command.command("ls")
@_selecting
@click.option("--all", "all_", is_flag=True, help=f"All letters, even if there are more than {_LISTED}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configured("nats.url", "namespace")
def list_(configuration: Configuration, selection: Any, limit: int | None, all_: bool, as_json: bool) -> None:
    """List dead letters, oldest first."""
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
    """Send each dead letter again to the handler that failed, and to no other, with its original id.

    Effects that have happened already do not happen twice. A letter that fails again becomes a dead letter again. A
    service that is not running gets its letters when it starts.
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
        usage("give either names or flags that select, not both")
    if not letters and selection is None and not all_:
        usage("no dead letters selected: give names (orders:17), flags that select, or --all")

    async def run() -> None:
        await act(configuration, letters, selection, limit)

    asyncio.run(run())
