"""`emit`: publish an event."""

import asyncio

import click

from runtime.cli.flags import configured
from runtime.host.config import Configuration


@click.command("emit")
@click.argument("target", metavar="SERVICE.EVENT")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE | JSON | -]...")
@click.option("--id", metavar="ID", help="The event's id: published again under the same one, it takes effect once.")
@click.option("--key", metavar="KEY", help="The event's key, where the service is not there to say which field it is.")
@configured("nats.url", "namespace", "timeout")
def command(
    configuration: Configuration, target: str, arguments: tuple[str, ...], id: str | None, key: str | None
) -> None:
    """Publish an event for its service, as a CloudEvent, and print its id and sequence once it is stored.

    \b
    actorloom emit delivery.DeliveryFailed '{"orderId": "1", "address": {…}}'
    """
    from runtime.cli import client
    from runtime.cli.events import emit

    asyncio.run(emit(configuration, client.target(target, "event"), arguments, event_id=id, key=key))
