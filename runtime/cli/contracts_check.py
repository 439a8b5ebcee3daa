"""`contracts check`: which change in the code of actors breaks whom, against the registry or a file."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.flags import configured
from runtime.host.config import Configuration

if TYPE_CHECKING:
    from runtime.contracts.rules import Broken
    from runtime.contracts.versions import Record

_REGISTRY = "registry"


@click.command("check")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option(
    "--against",
    default=_REGISTRY,
    show_default=True,
    metavar="FILE",
    help="Output of `contracts export --format json`, or registry: the versions with which the actors have started.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configured("nats.url", "namespace", "timeout")
def check(configuration: Configuration, targets: tuple[str, ...], against: str, as_json: bool) -> None:
    """Check whether the code of actors breaks others, before it runs. The exit code is 1 if it does."""
    from runtime.cli.failures import FAILED, Failure
    from runtime.cli.output import echo, print_json, print_note
    from runtime.cli.targets import find_actors
    from runtime.contracts.entries import entries_of_actor
    from runtime.contracts.rules import broken_by

    classes = find_actors(targets)
    records, now = asyncio.run(_records(configuration, against, [each.name for each in classes]))
    for each in classes:
        if each.name not in records:
            print_note(f"{each.name}: there is nothing to compare with")
    found = [
        broken
        for each in classes
        if each.name in records
        for broken in broken_by(each.name, entries_of_actor(each), records[each.name], now)
    ]
    if as_json:
        print_json([_row(each) for each in found])
    for broken in () if as_json else found:
        echo(f"{broken.type}: {broken.victim}")
        for change in broken.breaks:
            echo(f"  {change}")
    if against != _REGISTRY and any(each.state_type is not None for each in classes if each.name in records):
        print_note("states are not compared: a file has none, and the registry has those that are stored")
    if found:
        raise Failure(f"the contract breaks others: {', '.join(dict.fromkeys(each.type for each in found))}", FAILED)
    if not as_json:
        echo("nothing breaks")


def _row(broken: "Broken") -> dict[str, Any]:
    """Return somebody whom a change breaks, for JSON output."""
    from runtime.cli.output import time_text

    return {
        "type": broken.type,
        "kind": broken.kind,
        "victim": broken.victim,
        "version": broken.version,
        "actorVersion": broken.actor_version,
        "process": broken.process or None,
        "registered": time_text(broken.registered) if broken.registered else None,
        "breaks": broken.breaks,
    }


async def _records(configuration: Configuration, against: str, actors: list[str]) -> "tuple[dict[str, Record], float]":
    """Return the records of those actors that have one, and the time in Unix seconds."""
    from runtime.contracts.versions import Record, Start

    if against == _REGISTRY:
        from runtime.cli.schemas import opened

        async with opened(configuration) as registry:
            found = {actor: (await registry.find(actor)).record for actor in actors}
            return {actor: record for actor, record in found.items() if record.histories}, registry.now()
    from runtime.contracts import plain
    from runtime.contracts.entries import entries_of_service
    from runtime.errors import ConfigurationError

    try:
        text = Path(against).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {against}: {error.strerror}") from error
    return {
        each.name: Record().after(entries_of_service(each), Start(each.version, "", 0.0))
        for each in plain.read(text, against)
    }, 0.0
