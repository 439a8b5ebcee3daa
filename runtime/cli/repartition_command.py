"""`repartition`: stores the keys of a stopped actor in another number of partitions."""

import asyncio

import click

from runtime.cli import completion
from runtime.cli.flags import configured
from runtime.host.config import Configuration


@click.command("repartition")
@click.argument("actor", shell_complete=completion.actors)
@click.argument("partitions", type=int, metavar="P")
@click.option("--dry-run", is_flag=True, help="Only print what would be done, as JSON.")
@configured("nats.url", "namespace", "timeout", "lease_ttl")
def command(configuration: Configuration, actor: str, partitions: int, dry_run: bool) -> None:
    """Store the keys of ACTOR in P partitions: a power of two, 64 at most.

    All processes of the actor must be stopped. Records, remembered ids, timers and the positions of its consumers are kept. If
    the command is interrupted, run it again, or undo it by the former number. Then start the actor with partitions = P.
    """
    asyncio.run(_repartition(configuration, actor, partitions, dry_run))


async def _repartition(configuration: Configuration, actor: str, partitions: int, dry_run: bool) -> None:
    from runtime.admin.repartition import UnknownActor, examine, repartition
    from runtime.cli.client import connected, names
    from runtime.cli.failures import NOT_FOUND, Failure, usage
    from runtime.cli.output import print_json, print_note
    from runtime.nats.jetstream.client import JetStream
    from runtime.storage.layout import counted
    from runtime.wire.subjects import valid_name

    if not valid_name(actor):
        usage(f"{actor!r} cannot be the name of an actor")
    settings = configuration.settings
    async with connected(configuration) as connection:
        jetstream, of = JetStream(connection, settings.timeout), names(configuration, actor)
        try:
            if dry_run:
                print_json(await examine(jetstream, of, partitions))
                return
            changed = await repartition(
                jetstream,
                of,
                partitions,
                lease_ttl=settings.lease_ttl,
                report=lambda line: print_note(f"{actor}: {line}"),
            )
        except UnknownActor as error:
            raise Failure(str(error), NOT_FOUND) from None
    number = counted(partitions)
    print_note(f"{actor}: its keys are in {number} now" if changed else f"{actor}: nothing to do: it has {number}")
