"""`emit`: publishes an event."""

import asyncio

import click

from runtime.cli import completion
from runtime.cli.flags import configured, message_id
from runtime.host.config import Configuration


@click.command("emit")
@click.argument("target", metavar="SERVICE.EVENT", shell_complete=completion.target("event"))
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE | JSON | -]...", shell_complete=completion.fields("event"))
@click.option(
    "--id", callback=message_id, metavar="ID", help="The id of the event. Events with the same id take effect once."
)
@click.option("--key", metavar="KEY", help="The key of the event. Needed only if the service is not running.")
@configured("nats.url", "namespace", "timeout")
def command(
    configuration: Configuration, target: str, arguments: tuple[str, ...], id: str | None, key: str | None
) -> None:
    """Publish an event of a service as a CloudEvent, and print its id and sequence once it is stored.

    \b
    actorloom emit delivery.DeliveryFailed '{"orderId": "1", "address": {…}}'
    """
    from runtime.cli import client
    from runtime.cli.events import emit

    asyncio.run(emit(configuration, client.target(target, "event"), arguments, event_id=id, key=key))
