"""`keys`: lists the keys of an actor that have a state."""

import asyncio
from typing import Final

import click

from runtime.cli import completion
from runtime.cli.flags import configured
from runtime.cli.stored import actor_name
from runtime.host.config import Configuration

_LISTED: Final = 100
"""Number of keys that are printed by default."""


@click.command("keys")
@click.argument("actor", callback=actor_name, shell_complete=completion.actors)
@click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin with TEXT.")
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help=f"At most N keys (default {_LISTED}), in their order."
)
@click.option("--all", "all_", is_flag=True, help=f"All keys, even if there are more than {_LISTED}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configured("nats.url", "namespace", "timeout")
def command(
    configuration: Configuration, actor: str, prefix: str, limit: int | None, all_: bool, as_json: bool
) -> None:
    """List the keys of ACTOR that have a state, in the order of the keys.

    The version is that of the state, the sequence and the time are those of its last commit.
    """
    asyncio.run(_list(configuration, actor, prefix, limit or (None if all_ else _LISTED), as_json))


async def _list(configuration: Configuration, actor: str, prefix: str, limit: int | None, as_json: bool) -> None:
    from runtime.admin.stored import StoredRecord
    from runtime.cli.output import print_json, print_note, print_table, time_text
    from runtime.cli.stored import opened, readable
    from runtime.storage.record import is_null
    from runtime.wire.cloudevents import rfc3339

    found: list[StoredRecord] = []
    more = False
    async with opened(configuration, actor) as stored:
        async for each in stored.records(prefix):
            if not isinstance(each, StoredRecord):
                print_note(f"left out: {each.reason}")
            elif not is_null(each.record.state):
                if len(found) == limit:
                    more = True
                    break
                found.append(each)
    if as_json:
        print_json(
            [
                {
                    "key": readable(each.key),
                    "version": each.record.state_version,
                    "sequence": each.message.sequence,
                    "time": rfc3339(each.message.time),
                    "partition": each.names.partition.number,
                }
                for each in found
            ]
        )
    elif found:
        rows = [
            (each.key, each.record.state_version, each.message.sequence, time_text(each.message.time)) for each in found
        ]
        print_table(("key", "version", "sequence", "time"), rows)
    else:
        print_note("no keys with a state")
    if more:
        print_note(f"there are more: these are the first {limit} (see --limit, --all and --prefix)")
