"""`import`: stores edited records of a stopped actor."""

import asyncio
import getpass
import os
import socket
import sys
from collections import Counter
from contextlib import aclosing

import click

from runtime.cli import completion
from runtime.cli.failures import usage
from runtime.cli.flags import configured
from runtime.cli.stored import actor_name
from runtime.errors import CodecError
from runtime.host.config import Configuration


def _who(_: click.Context, __: click.Parameter, text: str | None) -> str:
    from runtime.wire.ids import check_id

    try:
        return check_id(f"{_user()}@{socket.gethostname()}" if text is None else text)
    except CodecError:
        raise click.BadParameter(f"{text!r}: write a name of printable text") from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no entry for the user, as in a container
        return str(os.getuid())


@click.command("import")
@click.argument("actor", callback=actor_name, shell_complete=completion.actors)
@click.option("--by", callback=_who, metavar="NAME", help="Who has edited the records (default: user@host).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the outcome of each edited line.")
@configured("nats.url", "namespace", "timeout", "lease_ttl")
def command(configuration: Configuration, actor: str, by: str, as_json: bool) -> None:
    """Store the edited lines of an export: actorloom import ACTOR < FILE.

    All processes of the actor must be stopped. Lines that were not edited change nothing. A line whose record has changed since the
    export is a conflict: its record stays as it is, and the exit code is 1. Without the code of the actor, the command
    does not know whether a state fits its type.
    """
    if sys.stdin.isatty():
        usage(f"the lines are read from stdin: actorloom import {actor} < FILE")
    asyncio.run(_import(configuration, actor, by, as_json))


async def _import(configuration: Configuration, actor: str, by: str, as_json: bool) -> None:
    from runtime.admin.exported import read_lines
    from runtime.admin.imported import Imported, Outcome, import_lines
    from runtime.cli.failures import FAILED, Failure
    from runtime.cli.output import print_json, print_note
    from runtime.cli.stored import opened

    lines, others = read_lines(sys.stdin.buffer)
    done: list[Imported] = []
    ttl = configuration.settings.lease_ttl
    async with opened(configuration, actor) as stored:
        try:
            if lines:
                async with aclosing(import_lines(stored, lines, by, lease_ttl=ttl, report=print_note)) as outcomes:
                    async for each in outcomes:
                        done.append(each)
                        if each.detail:
                            print_note(f"line {each.number}, key {each.key!r}: {each.outcome}: {each.detail}")
        finally:
            if as_json:
                names = ("line", "key", "outcome", "detail")
                print_json([dict(zip(names, each, strict=True)) for each in done])
            counts = Counter(each.outcome for each in done)
            counts[Outcome.UNCHANGED] += others
            written, unchanged, conflicts = (counts[outcome] for outcome in Outcome)
            print_note(f"{written} stored, {unchanged} unchanged, {conflicts} in conflict")
    if conflicts:
        raise Failure(f"{conflicts} not stored: export again, and edit those that are left", FAILED)
