"""`export`: prints the records of an actor as lines of JSON."""

import asyncio

import click

from runtime.cli import completion
from runtime.cli.flags import configured
from runtime.cli.stored import actor_name
from runtime.host.config import Configuration


@click.command("export")
@click.argument("actor", callback=actor_name, shell_complete=completion.actors)
@click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin with TEXT.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one record on each line. This is always so.")
@configured("nats.url", "namespace", "timeout")
def command(configuration: Configuration, actor: str, prefix: str, as_json: bool) -> None:
    """Print the records of ACTOR, one JSON object on each line, in the order of the keys: actorloom export ACTOR > FILE.

    A line has the key, the state and its version, the remembered messages, and the sequence of the record. Edit state, version or
    remembered, and keep the rest: `actorloom import` stores the edited lines. Each record is the newest one of its key. Those
    of different keys are not of the same moment if the actor runs.
    """
    asyncio.run(_export(configuration, actor, prefix))


async def _export(configuration: Configuration, actor: str, prefix: str) -> None:
    from runtime.admin.exported import line_of
    from runtime.admin.stored import StoredRecord
    from runtime.cli.failures import FAILED, Failure
    from runtime.cli.output import print_json, print_note
    from runtime.cli.stored import opened
    from runtime.errors import CodecError

    exported = left_out = 0
    async with opened(configuration, actor) as stored:
        async for each in stored.records(prefix):
            try:
                reason = line_of(each) if isinstance(each, StoredRecord) else each.reason
            except CodecError as error:
                reason = str(error)
            if isinstance(reason, bytes):
                print_json(reason)
                exported += 1
            else:
                print_note(f"left out: {reason}")
                left_out += 1
    print_note(f"{exported} exported")
    if left_out:
        raise Failure(f"{left_out} left out: they cannot be read", FAILED)
