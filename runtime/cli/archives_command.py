"""`archives`: lists, puts and deletes archives of events."""

import asyncio
import re
from typing import Any, Final

import click

from runtime.cli import completion
from runtime.cli.flags import configured, seconds_of
from runtime.host.config import Configuration

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}").fullmatch
_SIZES: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
"""Bytes by unit of a size."""
_MOST: Final = 2**62
"""The largest size, in bytes."""


@click.group("archives")
def command() -> None:
    """List, put or delete archives: streams that keep events for longer than the streams of the actors do.

    The NATS server fills an archive by itself, also with events of before, as far as the streams of the actors have them.
    """


def _name(_: click.Context, __: click.Parameter, text: str) -> str:
    if _NAME(text) is None:
        raise click.BadParameter(f"{text[:40]!r}: use at most 100 letters, digits, dashes and underscores")
    return text


def _keep(_: click.Context, __: click.Parameter, text: str) -> float | None:
    if text == "forever":
        return None
    seconds = seconds_of(text)
    if seconds is None or not 1 <= seconds <= 100 * 365 * 86_400:
        raise click.BadParameter(f"{text[:40]!r}: write 30d or 12h, at least 1s, or forever")
    return seconds


def _size(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,19})([KMGT]?)(?:i?B)?", text)
    size = int(found[1]) * _SIZES[found[2]] if found else 0
    if not 1 <= size <= _MOST:
        raise click.BadParameter(f"{text[:40]!r}: write a number of bytes, or 500M, 20G, 1T")
    return size


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_named = click.argument("name", callback=_name, shell_complete=completion.archives)


@command.command("ls")
@_as_json
@configured("nats.url", "namespace", "timeout")
def list_(configuration: Configuration, as_json: bool) -> None:
    """List archives, with their sizes, and the times of their first and last event."""
    from runtime.cli.archives import show_archives

    asyncio.run(show_archives(configuration, as_json))


@command.command("put")
@_named
@click.option(
    "--actor",
    "actors",
    multiple=True,
    metavar="ACTOR",
    shell_complete=completion.actors,
    help="All events of an actor; repeatable.",
)
@click.option(
    "--type", "types", multiple=True, metavar="ACTOR.EVENT", help="Events of a type: orders.OrderPaid; repeatable."
)
@click.option(
    "--subjects",
    multiple=True,
    metavar="SUBJECT",
    help="Events by subject, without namespace: orders.event.order_paid.<key>; repeatable.",
)
@click.option("--where", metavar="JSON", help="Refused: the server does not look into events. A rule does.")
@click.option(
    "--keep",
    default="forever",
    callback=_keep,
    metavar="TIME",
    help="How long the archive keeps an event: 365d (default: forever).",
)
@click.option("--max-bytes", callback=_size, metavar="SIZE", help="Drop the oldest events above this size: 20G.")
@click.option("--force", is_flag=True, help="Make the change even if it drops events.")
@click.option("--dry-run", is_flag=True, help="Only print the difference.")
@_as_json
@configured("nats.url", "namespace", "timeout")
def put(configuration: Configuration, **wanted: Any) -> None:
    """Create an archive, or bring an existing one to this definition as a whole. The difference is printed.

    Without events, the archive stores what is published on the subject archive.NAME.>, such as by rules.
    """
    from runtime.cli.archives import put_archive

    asyncio.run(put_archive(configuration, **wanted))


@command.command("delete")
@_named
@click.option("--yes", is_flag=True, help="Do not ask.")
@_as_json
@configured("nats.url", "namespace", "timeout")
def delete(configuration: Configuration, name: str, yes: bool, as_json: bool) -> None:
    """Delete an archive with all its events."""
    from runtime.cli.archives import delete_archive

    asyncio.run(delete_archive(configuration, name, yes, as_json))
