"""`timers`: lists the timers of an actor, fires one before its time, or drops one."""

import asyncio
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from runtime.cli import completion
from runtime.cli.failures import usage
from runtime.cli.flags import configured
from runtime.cli.stored import actor_name
from runtime.host.config import Configuration

_LISTED: Final = 100
"""Number of timers that are printed by default."""


class _Timers(click.Group):
    """A group in which ``timers ACTOR`` is short for ``timers ls ACTOR``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["ls", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = completion.actors(ctx, self.commands["ls"].params[0], incomplete)
        return [*super().shell_complete(ctx, incomplete), *map(CompletionItem, names)]


@click.group("timers", cls=_Timers, subcommand_metavar="ACTOR[/KEY] | COMMAND ...")
def command() -> None:
    """List the timers of ACTOR, or of one of its keys; fire a timer before its time, or drop it.

    Schedules and waiting long jobs are timers, too. All of this is safe while the actor runs.
    """


def _target(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, str | None]:
    """Return actor and token of ``ACTOR/KEY``, or actor and None of ``ACTOR``."""
    from runtime.cli.stored import actor_key

    if "/" not in text:
        return actor_name(context, parameter, text), None
    found = actor_key(context, parameter, text)
    return found.actor, found.token


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@command.command("ls")
@click.argument("target", callback=_target, metavar="ACTOR[/KEY]", shell_complete=completion.actors)
@click.option("--limit", type=click.IntRange(1), metavar="N", help=f"At most N timers (default {_LISTED}), next first.")
@click.option("--all", "all_", is_flag=True, help=f"All timers, even if there are more than {_LISTED}.")
@_as_json
@configured("nats.url", "namespace", "timeout")
def list_(
    configuration: Configuration, target: tuple[str, str | None], limit: int | None, all_: bool, as_json: bool
) -> None:
    """List timers by the time at which they are due; those that are due and wait for their owner come first."""
    asyncio.run(_list(configuration, *target, limit or (None if all_ else _LISTED), as_json))


@command.command("fire")
@click.argument("target", callback=_target, metavar="ACTOR/KEY", shell_complete=completion.actors_with_key)
@click.argument("name")
@_as_json
@configured("nats.url", "namespace", "timeout")
def fire(configuration: Configuration, target: tuple[str, str | None], name: str, as_json: bool) -> None:
    """Fire the timer NAME of a key now, as if it were due. A schedule goes on as before.

    For an actor without state, write ACTOR alone.
    """
    asyncio.run(_fire(configuration, *target, name, as_json))


@command.command("drop")
@click.argument("target", callback=_target, metavar="ACTOR/KEY", shell_complete=completion.actors_with_key)
@click.argument("name")
@_as_json
@configured("nats.url", "namespace", "timeout")
def drop(configuration: Configuration, target: tuple[str, str | None], name: str, as_json: bool) -> None:
    """Delete the timer NAME of a key. For an actor without state, write ACTOR alone."""
    asyncio.run(_drop(configuration, *target, name, as_json))


async def _list(configuration: Configuration, actor: str, token: str | None, limit: int | None, as_json: bool) -> None:
    from runtime.admin.timers import find_timers
    from runtime.cli.output import print_json, print_note, print_table, time_text
    from runtime.cli.stored import opened

    async with opened(configuration, actor) as stored:
        timers = await find_timers(stored, token)
    found = timers[:limit]
    if as_json:
        print_json([_summary(timer) for timer in found])
    elif found:
        rows = [
            (
                "-" if each.key is None else each.key,
                each.name,
                each.command,
                "is due" if each.is_due else each.schedule + (f" {each.zone}" if each.zone else "") or "once",
                "-" if each.time is None else time_text(each.time),
            )
            for each in found
        ]
        print_table(("key", "name", "command", "fires", "time"), rows)
    else:
        print_note("no timers")
    if len(found) < len(timers):
        print_note(f"there are {len(timers)}: these are the first {limit} (see --limit and --all)")


def _summary(timer: Any) -> dict[str, Any]:
    from runtime.cli.stored import json_body, readable
    from runtime.wire.cloudevents import rfc3339

    return {
        "key": None if timer.key is None else readable(timer.key),
        "name": readable(timer.name),
        "command": timer.command,
        "due": timer.is_due,
        "time": None if timer.time is None else rfc3339(timer.time),
        "schedule": timer.schedule or None,
        "zone": timer.zone or None,
        "id": timer.id,
        "trace": timer.trace,
        "sequence": timer.message.sequence,
        "partition": timer.names.partition.number,
        "body": json_body(timer.body),
    }


async def _fire(configuration: Configuration, actor: str, token: str | None, name: str, as_json: bool) -> None:
    from runtime.admin.timers import fire_timer
    from runtime.cli.failures import NOT_FOUND, Failure
    from runtime.cli.output import print_json, print_note
    from runtime.cli.stored import opened

    async with opened(configuration, actor) as stored:
        timers = await _named(stored, token, name)
        waiting = [timer for timer in timers if not timer.is_due]
        if not waiting:
            raise Failure(f"{name}: the timer is due already: it waits for its owner, or runs", NOT_FOUND)
        if not await fire_timer(stored, waiting[0]):
            raise Failure(f"{name}: the timer has fired, or was cancelled or replaced, just now", NOT_FOUND)
    if as_json:
        print_json(_summary(waiting[0]))
    print_note("fired" + ("; its schedule goes on" if waiting[0].schedule else ""))


async def _drop(configuration: Configuration, actor: str, token: str | None, name: str, as_json: bool) -> None:
    from runtime.admin.timers import drop_timer
    from runtime.cli.failures import NOT_FOUND, Failure
    from runtime.cli.output import print_json, print_note
    from runtime.cli.stored import opened
    from runtime.storage.recurring import MARK

    async with opened(configuration, actor) as stored:
        timers = await _named(stored, token, name)
        dropped = [timer for timer in timers if await drop_timer(stored, timer)]
    if not dropped:
        raise Failure(f"{name}: the timer has fired, or was cancelled or replaced, just now", NOT_FOUND)
    if as_json:
        print_json([_summary(timer) for timer in dropped])
    print_note(f"{len(dropped)} dropped")
    if any(timer.is_due for timer in dropped):
        print_note("it was due: an owner that has received it already runs it all the same")
    if name.startswith(MARK):
        print_note("the actor declares it, and stores it again at its next start: a setting pauses it (every)")


async def _named(stored: Any, token: str | None, name: str) -> list[Any]:
    """Return the timers of a key with a name. Ends the command if there is none."""
    from runtime.admin.timers import find_timers
    from runtime.cli.failures import NOT_FOUND, Failure
    from runtime.errors import CodecError
    from runtime.wire.tokens import NO_KEY, readable_key

    try:
        timers = await find_timers(stored, NO_KEY if token is None else token, name)
    except CodecError as error:
        usage(str(error))
    if not timers:
        of = "" if token is None else f" of key {readable_key(token)!r}"
        raise Failure(f"{stored.names.actor}: no timer {name!r}{of} waits", NOT_FOUND)
    return timers
