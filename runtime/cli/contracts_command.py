"""`contracts`: writes the contracts of actors as documents, from their code or from the services that run."""

import re
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

_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")
_FORMATS = ("asyncapi", "openapi", "jsonschema", "json")


@click.group("contracts")
def command() -> None:
    """Write the contracts of actors as documents.

    TARGET is a package of services, a part of it, a file, or a class, as for `run`: my_package, my_package.orders, orders.py,
    my_package.module:MyActor. The code is read, and nothing is connected. Without a TARGET, the contracts are those of the
    services that run.
    """


def _from_services(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments that all documents have: `services` and `title`."""

    @wraps(function)
    def found(configuration: Configuration, targets: tuple[str, ...], **others: Any) -> Any:
        from runtime.cli.contracted import contracted
        from runtime.cli.output import print_note
        from runtime.contracts.from_running import without_schemas

        services = contracted(configuration, targets)
        if missing := without_schemas(services):
            print_note(f"no schemas are announced by {', '.join(missing)}")
        return function(services=services, **others)

    decorated: Callable[..., Any] = configured("nats.url", "namespace")(found)
    decorated = click.option("--title", default="", metavar="TEXT", help="Title of the document.")(decorated)
    return click.argument("targets", nargs=-1, metavar="[TARGET...]")(decorated)


def _host(_: click.Context, __: click.Parameter, given: str) -> str:
    if not _HOST.fullmatch(given):
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
