"""`query`: sends a query to a service."""

import asyncio
from typing import Any

import click

from runtime.cli import completion
from runtime.cli.flags import configured, header, tracing
from runtime.host.config import Configuration


@click.command("query")
@click.argument("target", metavar="SERVICE.NAME", shell_complete=completion.target("query"))
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE | JSON | -]...", shell_complete=completion.fields("query"))
@header
@tracing
@configured("nats.url", "namespace", "timeout")
def command(configuration: Configuration, target: str, arguments: tuple[str, ...], **given: Any) -> None:
    """Send a query and print its reply as JSON.

    \b
    actorloom query orders.get_order orderId=1
    actorloom query products.validate_products products:='[{"productId": "mug"}]'
    echo '{"orderId": "1"}' | actorloom query orders.get_order -
    """
    from runtime.cli import client
    from runtime.cli.requests import Request, send

    request = Request(op="query", target=client.target(target, "query"), arguments=arguments, **given)
    asyncio.run(send(configuration, request))
