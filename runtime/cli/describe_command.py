"""`describe`: shows the operations, events and reactions of a service."""

import asyncio
from typing import TYPE_CHECKING

import click

from runtime.cli import completion
from runtime.cli.flags import configured
from runtime.host.config import Configuration

if TYPE_CHECKING:
    from runtime.admin.ownership import Ownership


@click.command("describe")
@click.argument("name", metavar="SERVICE", shell_complete=completion.services)
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
    from runtime.cli.owners import ownership_of

    wanted = configuration.settings.namespace

    async def find() -> "tuple[list[discovery.Service], Ownership | None]":
        async with connected(configuration) as connection:
            services = [each for each in await discovery.services(connection) if each.metadata.namespace == wanted]
            found = next((each for each in services if each.name == name), None)
            return services, None if found is None else await ownership_of(connection, found)

    services, ownership = asyncio.run(find())
    instances = [each for each in services if each.name == name]
    if not instances:
        matches = get_close_matches(name, sorted({each.name for each in services}), 1)
        raise Failure(f"no service {name!r} is running{f': did you mean {matches[0]}?' if matches else ''}", NOT_FOUND)
    if as_json:
        print_json(as_data(instances, ownership))
    else:
        echo(as_text(instances, ownership))
