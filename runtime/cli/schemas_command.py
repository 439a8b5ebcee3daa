"""`schemas`: shows the schemas with which actors have started, their versions, and the difference of two of them."""

import asyncio

import click

from runtime.cli import completion
from runtime.cli.flags import configured
from runtime.host.config import Configuration

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_typed = click.argument("name", metavar="TYPE", shell_complete=completion.schemas)


@click.group("schemas")
def command() -> None:
    """Show the schemas that actors have registered when they started.

    TYPE is the name of a message (orders.CreateOrder), of its reply (orders.CreateOrder.reply), or of a state with its
    state_version (orders.state.1). A version is the beginning of the hash that `ls` and `history` print.
    """


@command.command("ls")
@click.argument("actor", required=False, metavar="[ACTOR]", shell_complete=completion.actors)
@_as_json
@configured("nats.url", "namespace", "timeout")
def list_(configuration: Configuration, actor: str | None, as_json: bool) -> None:
    """List the schemas of all actors, or of one, with their newest versions."""
    from runtime.cli.schemas import list_schemas

    asyncio.run(list_schemas(configuration, actor, as_json))


@command.command("show")
@_typed
@click.option("--version", metavar="HASH", default="", help="The version (default: the newest).")
@configured("nats.url", "namespace", "timeout")
def show(configuration: Configuration, name: str, version: str) -> None:
    """Print a schema as JSON."""
    from runtime.cli.schemas import show_schema

    asyncio.run(show_schema(configuration, name, version))


@command.command("history")
@_typed
@_as_json
@configured("nats.url", "namespace", "timeout")
def history(configuration: Configuration, name: str, as_json: bool) -> None:
    """List the versions of a schema, the newest one last."""
    from runtime.cli.schemas import show_history

    asyncio.run(show_history(configuration, name, as_json))


@command.command("diff")
@_typed
@click.argument("versions", nargs=-1, metavar="[OLD NEW]")
@_as_json
@configured("nats.url", "namespace", "timeout")
def diff(configuration: Configuration, name: str, versions: tuple[str, ...], as_json: bool) -> None:
    """Show the difference of two versions, and what it breaks. By default, they are the newest one and the one before."""
    from runtime.cli.failures import usage
    from runtime.cli.schemas import show_difference

    if len(versions) not in (0, 2):
        usage("name two versions, the old one first, or none")
    asyncio.run(show_difference(configuration, name, versions, as_json))
