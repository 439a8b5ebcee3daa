"""`state`: prints the stored state of a key."""

import asyncio

import click
import msgspec

from runtime.cli import completion
from runtime.cli.flags import configured
from runtime.cli.stored import ActorKey, actor_key
from runtime.host.config import Configuration


@click.command("state")
@click.argument("target", callback=actor_key, metavar="ACTOR/KEY", shell_complete=completion.actors_with_key)
@click.option(
    "--record", is_flag=True, help="Print the whole record as JSON: also remembered ids, and what is left to publish."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON with the version, sequence and time of the state.")
@configured("nats.url", "namespace", "timeout")
def command(configuration: Configuration, target: ActorKey, record: bool, as_json: bool) -> None:
    """Print the state of a key as its actor has stored it last, whether the actor runs or not."""
    asyncio.run(_show(configuration, target, record, as_json))


async def _show(configuration: Configuration, target: ActorKey, record: bool, as_json: bool) -> None:
    from runtime.admin.record_view import view_record
    from runtime.cli.failures import FAILED, NOT_FOUND, Failure
    from runtime.cli.output import print_json, print_note, time_text
    from runtime.cli.stored import opened, readable
    from runtime.storage.record import EDITED, Unreadable, is_null, record_fields
    from runtime.wire.cloudevents import rfc3339

    async with opened(configuration, target.actor) as stored:
        try:
            found = await stored.record(target.key)
        except Unreadable as error:
            raise Failure(error.reason, FAILED) from None
        if found is None:
            raise Failure(f"{target}: no such key: it has no record", NOT_FOUND)
        message, version = found.message, found.record.state_version
        if is_null(found.record.state) and not record:
            raise Failure(
                f"{target}: the key has no state: it was deleted or never set, and --record shows the rest of its record",
                NOT_FOUND,
            )
        whole = {"record": await view_record(stored, found)} if record else {}
    edited = record_fields(message.payload).get(EDITED)
    if as_json or record:
        print_json(
            {
                "key": readable(found.key),
                "version": version,
                "sequence": message.sequence,
                "time": rfc3339(message.time),
                "partition": found.names.partition.number,
                **({"edited": edited} if edited else {}),
                "state": found.record.state,
                **whole,
            }
        )
        return
    by = f", edited by {msgspec.json.decode(edited)}" if edited else ""
    print_note(f"{target}: state version {version}, sequence {message.sequence}, {time_text(message.time)}{by}")
    print_json(bytes(found.record.state))
