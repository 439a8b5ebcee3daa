"""`contracts`: writes the contracts of actors as documents, from their code or from the services that run."""

import asyncio
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runtime.cli.contracts_check import check
from runtime.cli.flags import configured
from runtime.host.config import Configuration

if TYPE_CHECKING:
    from runtime.admin.discovery import Service

_FORMATS = ("asyncapi", "openapi", "jsonschema", "json")


@click.group("contracts")
def command() -> None:
    """Write the contracts of actors as documents.

    ACTORS are targets as those of `actorloom run`: my_package, my_package.orders, orders.py, my_package.module:MyActor. Their
    code is read, and nothing is connected. Without ACTORS, the contracts are those of the services that run.
    """


def _from_services(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments that all documents have: `services` and `title`."""

    @wraps(function)
    def found(configuration: Configuration, actors: tuple[str, ...], **others: Any) -> Any:
        return function(services=services_of(configuration, actors), **others)

    decorated: Callable[..., Any] = configured("nats.url", "namespace")(found)
    decorated = click.option("--title", default="", metavar="TEXT", help="Title of the document.")(decorated)
    return click.argument("actors", nargs=-1, metavar="[ACTORS]...")(decorated)


def _host(_: click.Context, __: click.Parameter, given: str) -> str:
    if "://" in given or not given.strip():
        raise click.BadParameter(f"{given!r}: write HOST:PORT, without a scheme")
    return given


command.add_command(check)

_FILE: Final = click.Path(dir_okay=False, path_type=Path)


@command.command("export")
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    required=True,
    help="asyncapi 3.0, openapi 3.1, a bundle of JSON Schemas (2020-12), or Actorloom's own description.",
)
@click.option(
    "--server",
    metavar="HOST:PORT",
    default="localhost:4222",
    callback=_host,
    help="NATS server of asyncapi (default localhost:4222).",
)
@click.option("--output", type=_FILE, help="File to write (default stdout).")
@_from_services
def export(services: "list[Service]", form: str, server: str, title: str, output: Path | None) -> None:
    """Write the contracts as a document for machines. The same contracts give the same bytes."""
    from runtime.cli.output import print_json, print_note
    from runtime.contracts import asyncapi, json_schema, openapi, plain
    from runtime.contracts.asyncapi_check import problems
    from runtime.contracts.title import title_of

    heading = title_of(services, title)
    match form:
        case "asyncapi":
            document = asyncapi.document(services, heading, server)
            for each in problems(document):
                print_note(f"not valid in AsyncAPI: {each}")
        case "openapi":
            document = openapi.document(services, heading)
        case "jsonschema":
            document = json_schema.document(services, heading)
        case _:
            document = plain.document(services)
    text = plain.write_json(document)
    if output is not None:
        output.write_bytes(text)
    else:
        print_json(text.removesuffix(b"\n"))


@command.command("html")
@click.option("--output", type=_FILE, required=True, help="File to write.")
@_from_services
def html(services: "list[Service]", title: str, output: Path) -> None:
    """Write the contracts as one HTML page for people. It needs no network."""
    from runtime.contracts.page import page
    from runtime.contracts.title import title_of

    output.write_bytes(page(services, title_of(services, title)))


def services_of(configuration: Configuration, actors: tuple[str, ...]) -> "list[Service]":
    """Return the services of the actors that the targets `actors` name, or without targets those that run, sorted by name.

    A service that announces no schemas is reported on stderr.

    Raises:
        ConfigurationError: A target does not exist or has no actors.
        DeclarationError: A module cannot be imported.
        Failure: No service runs in the namespace.
    """
    from runtime.cli.client import connected
    from runtime.cli.failures import NOT_FOUND, Failure
    from runtime.cli.output import print_note
    from runtime.cli.targets import find_actors
    from runtime.contracts import from_code, from_running

    namespace = configuration.settings.namespace
    if actors:
        return from_code.services_of(find_actors(actors), namespace)

    async def running() -> "list[Service]":
        async with connected(configuration) as connection:
            return await from_running.running_services(connection, namespace)

    found = asyncio.run(running())
    if not found:
        raise Failure("no service is running: name ACTORS to read their code", NOT_FOUND)
    if missing := from_running.without_schemas(found):
        print_note(f"no schemas are announced by {', '.join(missing)}")
    return found
