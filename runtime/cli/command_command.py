"""`command`: sends a command to a service."""

import asyncio
from typing import Any

import click

from runtime.cli import completion
from runtime.cli.flags import configured, header, message_id, tracing
from runtime.host.config import Configuration


@click.command("command")
@click.argument("target", metavar="SERVICE.NAME", shell_complete=completion.target("command"))
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE | JSON | -]...", shell_complete=completion.fields("command"))
@click.option(
    "--id", callback=message_id, metavar="ID", help="The id of the command. Commands with the same id take effect once."
)
@header
@tracing
@configured("nats.url", "namespace", "timeout")
def command(configuration: Configuration, target: str, arguments: tuple[str, ...], **given: Any) -> None:
    """Send a command and print its reply as JSON. The reply is sent when the effects of the command are stored.

    \b
    actorloom command warehouse.start_packaging orderId=1
    actorloom command payment-3p.preauth cardNumber=4242424242424242 amount=100 --id order-1
    """
    from runtime.cli import client
    from runtime.cli.requests import Request, send

    request = Request(op="command", target=client.target(target, "command"), arguments=arguments, **given)
    asyncio.run(send(configuration, request))
