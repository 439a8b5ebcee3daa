"""`targets`: lists, puts, pauses and deletes the targets of rules."""

import asyncio

import click

from runtime.cli import completion
from runtime.cli.failures import usage
from runtime.cli.flags import configured
from runtime.cli.named import as_json, expect, kept_name
from runtime.host.config import Configuration


@click.group("targets")
def command() -> None:
    """Targets: where the deliveries of rules go. `actorloom run runtime.router` runs a router."""


_target = click.argument("name", callback=kept_name, shell_complete=completion.routed_targets)
_expect = expect("target")


@command.command("ls")
@as_json
@configured("nats.url", "namespace", "timeout")
def list_(configuration: Configuration, as_json: bool) -> None:
    """List the targets by name: kind, place, state, deliveries that wait or are in progress, and dead letters."""
    from runtime.cli.routed_targets import list_all

    asyncio.run(list_all(configuration, as_json))


@command.command("show")
@_target
@configured("nats.url", "namespace", "timeout")
def show(configuration: Configuration, name: str) -> None:
    """Print a target as JSON."""
    from runtime.cli.routed_targets import show

    asyncio.run(show(configuration, name))


@command.command("put")
@_target
@click.argument("settings", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--kind", metavar="KIND", help="command, event, http, subject or log.")
@click.option("--file", metavar="FILE", help="YAML or JSON file with the fields of the target; - for stdin.")
@_expect
@as_json
@configured("nats.url", "namespace", "timeout")
def put(
    configuration: Configuration,
    name: str,
    settings: tuple[str, ...],
    kind: str | None,
    file: str | None,
    expect: int | None,
    as_json: bool,
) -> None:
    """Create or replace a target, as a whole. One that is paused stays so.

    \b
    actorloom targets put ledger --kind command actor=ledger command=Book
    actorloom targets put audit --kind event type=audit.OrderSeen attempts=10

    FIELD is a field of the place, as its kind has them, or a setting such as concurrency, rate, attempts, max_age, timeout or
    description. Values have their form in `actorloom command`: a.b=1 nested, key:=JSON.
    """
    from runtime.cli.routed_targets import fields_from_arguments, fields_from_file, put_target
    from runtime.router.target import PutTarget

    if file is not None:
        if kind is not None or settings:
            usage("give either --file or --kind with fields, not both")
        fields = fields_from_file(file)
    elif kind is None:
        usage("--kind: give the kind of the target, or --file")
    else:
        fields = fields_from_arguments(kind, settings)
    asyncio.run(put_target(configuration, PutTarget(name, fields, expect), as_json))


@command.command("pause")
@_target
@configured("nats.url", "namespace", "timeout")
def pause(configuration: Configuration, name: str) -> None:
    """Pause a target. Its deliveries wait in its stream."""
    from runtime.cli.routed_targets import pause

    asyncio.run(pause(configuration, name, True))


@command.command("resume")
@_target
@configured("nats.url", "namespace", "timeout")
def resume(configuration: Configuration, name: str) -> None:
    """Resume a target that is paused: the deliveries that wait go on."""
    from runtime.cli.routed_targets import pause

    asyncio.run(pause(configuration, name, False))


@command.command("delete")
@_target
@_expect
@configured("nats.url", "namespace", "timeout")
def delete(configuration: Configuration, name: str, expect: int | None) -> None:
    """Delete a target that no rule names. Its dead letters stay."""
    from runtime.cli.routed_targets import delete

    asyncio.run(delete(configuration, name, expect))
