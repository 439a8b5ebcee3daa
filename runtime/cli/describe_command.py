"""`describe`: shows the operations, events and reactions of a service."""

import asyncio

import click

from runtime.cli.flags import configured
from runtime.host.config import Configuration


@click.command("describe")
@click.argument("name", metavar="SERVICE")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the full schemas.")
@configured("nats.url", "namespace")
def command(configuration: Configuration, name: str, as_json: bool) -> None:
    """Show the operations of a service with their messages, the events it emits, and the events it reacts to."""
    from difflib import get_close_matches

    from runtime.admin import discovery
    from runtime.cli.client import connected
    from runtime.cli.description import as_data, as_text
    from runtime.cli.failures import NOT_FOUND, Failure
    from runtime.cli.output import echo, print_json

    async def found() -> list[discovery.Service]:
        async with connected(configuration) as connection:
            return await discovery.services(connection)

    wanted = configuration.settings.namespace
    services = [each for each in asyncio.run(found()) if each.metadata.namespace == wanted]
    instances = [each for each in services if each.name == name]
    if not instances:
        matches = get_close_matches(name, sorted({each.name for each in services}), 1)
        raise Failure(f"no service {name!r} is running{f': did you mean {matches[0]}?' if matches else ''}", NOT_FOUND)
    if as_json:
        print_json(as_data(instances))
    else:
        echo(as_text(instances))
