"""`upgrade`: brings the streams of an actor of an earlier version to the form of this one."""

import asyncio

import click

from runtime.cli import completion
from runtime.cli.flags import configured
from runtime.host.config import Configuration


@click.command("upgrade")
@click.argument("actor", shell_complete=completion.actors)
@configured("nats.url", "namespace", "timeout", "lease_ttl")
def command(configuration: Configuration, actor: str) -> None:
    """Bring the streams of events and dead letters of ACTOR to the form of this version.

    All processes of the actor, and of the actors that react to its events, must be stopped. Nothing is lost, and consumers
    continue where they were. If the command is interrupted, run it again.
    """
    asyncio.run(_upgrade(configuration, actor))


async def _upgrade(configuration: Configuration, actor: str) -> None:
    from runtime.admin.repartition import UnknownActor
    from runtime.admin.upgrade import upgrade
    from runtime.cli.client import connected, names
    from runtime.cli.failures import NOT_FOUND, Failure, usage
    from runtime.cli.output import print_note
    from runtime.nats.jetstream.client import JetStream
    from runtime.wire.subjects import valid_name

    if not valid_name(actor):
        usage(f"{actor!r} cannot be the name of an actor")
    settings = configuration.settings
    async with connected(configuration) as connection:
        jetstream, of = JetStream(connection, settings.timeout), names(configuration, actor)
        try:
            changed = await upgrade(
                jetstream, of, lease_ttl=settings.lease_ttl, report=lambda line: print_note(f"{actor}: {line}")
            )
        except UnknownActor as error:
            raise Failure(str(error), NOT_FOUND) from None
    print_note(f"{actor}: its streams have the form of this version now" if changed else f"{actor}: nothing to do")
