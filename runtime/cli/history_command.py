"""`history`: shows the events, dead letters and timers of a key by time."""

import asyncio
from typing import Final

import click

from runtime.cli import completion
from runtime.cli.flags import configured, moment
from runtime.cli.stored import ActorKey, actor_key
from runtime.host.config import Configuration

_LISTED: Final = 100
"""Number of entries that are printed by default."""
_WIDTH: Final = 60
"""Characters of the details in a table."""


@click.command("history")
@click.argument("target", callback=actor_key, metavar="ACTOR/KEY", shell_complete=completion.actors_with_key)
@click.option(
    "--since", callback=moment, metavar="WHEN", help="Only from this time on: 2h (ago), or 2026-03-01T12:00Z."
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help=f"The newest N entries (default {_LISTED}).")
@click.option("--all", "all_", is_flag=True, help=f"All entries, even if there are more than {_LISTED}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configured("nats.url", "namespace", "timeout")
def command(
    configuration: Configuration, target: ActorKey, since: float | None, limit: int | None, all_: bool, as_json: bool
) -> None:
    """Show the events, dead letters and timers of a key by time, each with its trace.

    Events are kept for 30 days. There is no history of states: only the newest one is stored.
    """
    asyncio.run(_show(configuration, target, since or 0.0, limit or (None if all_ else _LISTED), as_json))


async def _show(configuration: Configuration, target: ActorKey, since: float, limit: int | None, as_json: bool) -> None:
    from runtime.admin.history import read_history
    from runtime.cli.output import print_json, print_note, print_table, time_text
    from runtime.cli.stored import json_body, opened
    from runtime.wire.cloudevents import rfc3339

    async with opened(configuration, target.actor) as stored:
        found, count = await read_history(stored, target.token, since, limit)
    if as_json:
        print_json(
            [
                {
                    "time": None if each.time is None else rfc3339(each.time),
                    "kind": each.kind,
                    "name": each.name,
                    "id": each.id,
                    "detail": each.detail.encode(errors="backslashreplace").decode(),
                    "trace": each.trace,
                    "body": json_body(each.body),
                }
                for each in found
            ]
        )
    elif found:
        rows = [
            (
                "-" if each.time is None else time_text(each.time),
                each.kind,
                each.name,
                each.detail if len(each.detail) <= _WIDTH else each.detail[: _WIDTH - 1] + "…",
                each.trace or "-",
            )
            for each in found
        ]
        print_table(("time", "kind", "name", "detail", "trace"), rows)
    else:
        print_note("no events, dead letters or timers")
    if len(found) < count:
        print_note(f"there are {count}: these are the newest {limit} (see --limit, --all and --since)")
    print_note("there is no history of states: `actorloom state` prints the newest one")
