"""Archives on the command line: listed, put and deleted."""

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import click

from runtime.admin.archive_config import Archive, keep_text, rule_subject
from runtime.admin.archives import Stored, UnknownArchive, delete, find_archive, list_archives, put
from runtime.cli.client import connected, target
from runtime.cli.failures import NOT_FOUND, Failure, usage
from runtime.cli.output import print_json, print_note, print_table, time_text
from runtime.host.config import Configuration
from runtime.nats.jetstream.client import JetStream
from runtime.wire.subjects import valid_name


async def show_archives(configuration: Configuration, as_json: bool) -> None:
    """Print all archives, as a table or a JSON array."""
    async with _opened(configuration) as jetstream:
        found = await list_archives(jetstream, configuration.settings.namespace)
    if as_json:
        print_json([_data(each) for each in found])
    elif found:
        head = ("name", "events", "messages", "bytes", "first", "last", "keep")
        print_table(head, [_row(each) for each in found])
    else:
        print_note("no archives")


async def put_archive(
    configuration: Configuration,
    *,
    name: str,
    actors: Sequence[str],
    types: Sequence[str],
    subjects: Sequence[str],
    where: str | None,
    keep: float | None,
    max_bytes: int | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Create or change an archive, and print the difference."""
    if where is not None:
        subject = rule_subject(configuration.settings.namespace, name).replace(">", "events")
        usage(
            f"--where: the server fills an archive by subjects and does not look into events. Put {name} without events, and "
            f"a rule with this pattern whose target is the subject {subject}"
        )
    found = [*(_of_actor(each) for each in actors), *(_of_type(each) for each in types), *subjects]
    archive = Archive(name=name, events=tuple(found), keep=keep, max_bytes=max_bytes)
    async with _opened(configuration) as jetstream:
        change = await put(jetstream, configuration.settings.namespace, archive, force=force, dry_run=dry_run)
    if as_json:
        outcome = {"created": change.created, "changes": change.lines, "missing": change.missing}
        print_json(_definition(change.archive) | outcome)
        return
    for line in change.lines:
        print_note(f"  {line}")
    for stream in change.missing:
        print_note(f"{name}: there is no stream {stream} yet: its events follow once its actor runs")
    done = "is created" if change.created else "is changed" if change.lines else "has this definition already"
    print_note(f"{name}: " + ("nothing is changed: this is a dry run" if dry_run else done))


async def delete_archive(configuration: Configuration, name: str, yes: bool, as_json: bool) -> None:
    """Delete an archive, after a question unless `yes`. Raises `Failure` if there is none."""
    async with _opened(configuration) as jetstream:
        found = await find_archive(jetstream, configuration.settings.namespace, name)
        if not yes:
            if not sys.stdin.isatty():
                usage(f"{name} has {found.messages} messages, and nobody can be asked here: give --yes")
            click.confirm(f"Delete {name} with {found.messages} messages?", abort=True, err=True)
        found = await delete(jetstream, configuration.settings.namespace, name)
    if as_json:
        print_json(_data(found))
    else:
        print_note(f"{name}: deleted, with {found.messages} messages")


def _of_actor(actor: str) -> str:
    """Return the subject of all events of an actor."""
    if not valid_name(actor):
        usage(f"--actor: {actor[:80]!r} is not the name of an actor, such as orders")
    return f"{actor}.event"


def _of_type(text: str) -> str:
    """Return the subject of the events of a type."""
    event = target(text, "event")
    if not event.word.isidentifier():
        usage(f"--type: {text[:80]!r} is not the type of an event, such as orders.OrderPaid")
    return f"{event.service}.event.{event.word}"


@asynccontextmanager
async def _opened(configuration: Configuration) -> AsyncGenerator[JetStream]:
    async with connected(configuration) as connection:
        try:
            yield JetStream(connection, configuration.settings.timeout)
        except UnknownArchive as error:
            raise Failure(str(error), NOT_FOUND) from None


def _row(found: Stored) -> tuple[object, ...]:
    archive = found.archive
    events = ", ".join(each.removesuffix(".*") for each in archive.events) or f"archive.{archive.name}.>"
    times = (_time(found.first) or "-", _time(found.last) or "-")
    return archive.name, events, found.messages, found.bytes, *times, keep_text(archive.keep)


def _data(found: Stored) -> dict[str, Any]:
    """Return an archive for JSON."""
    archive = found.archive
    return _definition(archive) | {
        "stream": found.stream,
        "messages": found.messages,
        "bytes": found.bytes,
        "first": _time(found.first),
        "last": _time(found.last),
    }


def _definition(archive: Archive) -> dict[str, Any]:
    return {"name": archive.name, "events": archive.events, "keep": archive.keep, "maxBytes": archive.max_bytes}


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else time_text(seconds)
