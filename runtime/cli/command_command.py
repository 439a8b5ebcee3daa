"""`command`: tell a service to do something."""

import asyncio
from typing import Any

import click

from runtime.cli.flags import configured, header, tracing
from runtime.host.config import Configuration


@click.command("command")
@click.argument("target", metavar="SERVICE.NAME")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE | JSON | -]...")
@click.option("--id", metavar="ID", help="The command's id: sent again under the same one, it takes effect once.")
@header
@tracing
@configured("nats.url", "namespace", "timeout")
def command(configuration: Configuration, target: str, arguments: tuple[str, ...], **given: Any) -> None:
    """Tell a service to do something, and print its reply (JSON) on stdout once it is done and durable.

    \b
    actorloom command warehouse.start_packaging orderId=1
    actorloom command payment-3p.preauth cardNumber=4242424242424242 amount=100 --id order-1
    """
    from runtime.cli import client
    from runtime.cli.requests import Request, send

    request = Request(op="command", target=client.target(target, "command"), arguments=arguments, **given)
    asyncio.run(send(configuration, request))
