"""Registered schemas on the command line: listed, shown, and compared."""

import difflib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from runtime.cli.client import connected
from runtime.cli.failures import NOT_FOUND, Failure, usage
from runtime.cli.output import echo, print_json, print_note, print_table, time_text
from runtime.contracts.compatibility import breaks
from runtime.contracts.registry import Registered, Registry
from runtime.contracts.versions import History, Version
from runtime.errors import CodecError
from runtime.host.config import Configuration
from runtime.nats.jetstream.client import JetStream
from runtime.wire.subjects import snake_case, valid_name

_NEWEST_READS = "the new version cannot read values of the old one"
_OLD_READS = "the old version cannot read values of the new one"


async def list_schemas(configuration: Configuration, actor: str | None, as_json: bool) -> None:
    """Print the newest version of each schema. Raises `Failure` if an actor is named that has none."""
    if actor is not None and not valid_name(actor):
        usage(f"{actor!r} is not the name of an actor")
    async with opened(configuration) as registry:
        found = [await registry.find(actor)] if actor is not None else await _all(registry)
    if actor is not None and not found[0].record.histories:
        raise Failure(f"{actor} has registered no schemas", NOT_FOUND)
    rows = [
        (f"{each.actor}.{history.name}", history, history.newest)
        for each in sorted(found)
        for history in sorted(each.record.histories, key=lambda history: history.name)
        if history.newest is not None
    ]
    if as_json:
        print_json(
            [
                {"type": name, "kind": each.kind, **_facts(last), "versions": len(each.versions)}
                for name, each, last in rows
            ]
        )
        return
    table = [
        (name, each.kind, last.version, len(each.versions), time_text(last.registered), last.actor_version)
        for name, each, last in rows
    ]
    print_table(("TYPE", "KIND", "VERSION", "VERSIONS", "REGISTERED", "BY VERSION"), table)


async def show_schema(configuration: Configuration, name: str, version: str) -> None:
    """Print a schema. Raises `Failure` if it is not registered."""
    history = await _history(configuration, name)
    print_json(_version(history, name, version).schema)


async def show_history(configuration: Configuration, name: str, as_json: bool) -> None:
    """Print the versions of a schema. Raises `Failure` if it is not registered."""
    history = await _history(configuration, name)
    if as_json:
        print_json([_facts(each) for each in history.versions])
        return
    rows = [
        (
            each.version,
            each.actor_version,
            time_text(each.registered),
            time_text(each.until) if each.until else "now",
            each.process,
        )
        for each in history.versions
    ]
    print_table(("VERSION", "BY VERSION", "REGISTERED", "IN FORCE UNTIL", "BY PROCESS"), rows)
    if history.broken:
        print_note(f"a breaking change was allowed at {time_text(history.broken)}")


async def show_difference(configuration: Configuration, name: str, versions: tuple[str, ...], as_json: bool) -> None:
    """Print the difference of two versions. Raises `Failure` if one of them is not registered."""
    history = await _history(configuration, name)
    if versions:
        old, new = (_version(history, name, each) for each in versions)
    elif len(history.versions) < 2:
        raise Failure(f"{name} has one version only", NOT_FOUND)
    else:
        old, new = history.versions[-2:]
    found = {
        _NEWEST_READS: breaks(old.schema, new.schema),
        _OLD_READS: breaks(new.schema, old.schema, newer="writer"),
    }
    if as_json:
        both = {"newReadsOld": found[_NEWEST_READS], "oldReadsNew": found[_OLD_READS]}
        print_json({"type": name, "old": old.version, "new": new.version, "breaks": both})
        return
    for line in difflib.unified_diff(_lines(old), _lines(new), old.version, new.version, lineterm=""):
        echo(line)
    for text, some in found.items():
        for each in some:
            print_note(f"{text}: {each}")
    if not any(found.values()):
        print_note("nothing breaks: each version reads values of the other")


@asynccontextmanager
async def opened(configuration: Configuration) -> AsyncGenerator[Registry]:
    """Yield the registry of the configured namespace."""
    settings = configuration.settings
    async with connected(configuration) as connection:
        yield Registry(JetStream(connection, settings.timeout), settings.namespace)


async def _all(registry: Registry) -> list[Registered]:
    found: list[Registered] = []
    async for each in registry.read():
        if isinstance(each, CodecError):
            print_note(str(each))
        else:
            found.append(each)
    return found


async def _history(configuration: Configuration, name: str) -> History:
    """Return the versions of a schema, by its name or that of its operation: ``orders.CreateOrder``, ``orders.create_order``."""
    actor, _, own = name.partition(".")
    if not valid_name(actor) or not own:
        usage(f"{name!r}: write a type, for example orders.OrderCreated, orders.GetOrder.reply or orders.state.1")
    async with opened(configuration) as registry:
        record = (await registry.find(actor)).record
    found = [each for each in record.histories if own in (each.name, snake_case(each.name))]
    if not found:
        close = difflib.get_close_matches(own, [each.name for each in record.histories], 1)
        hint = f": did you mean {actor}.{close[0]}?" if close else ""
        raise Failure(f"{name} is not registered{hint}", NOT_FOUND)
    return found[0]


def _version(history: History, name: str, version: str) -> Version:
    found = history.find(version)
    if found is None:
        raise Failure(f"{name} has no version {version}", NOT_FOUND)
    return found


def _facts(version: Version) -> dict[str, Any]:
    """Return a version for JSON output, without its schema."""
    return {
        "version": version.version,
        "actorVersion": version.actor_version,
        "process": version.process,
        "registered": time_text(version.registered),
        "seen": time_text(version.seen),
        "until": time_text(version.until) if version.until else None,
    }


def _lines(version: Version) -> list[str]:
    return (
        msgspec.json.format(msgspec.json.encode(version.schema, order="deterministic"), indent=2).decode().split("\n")
    )
