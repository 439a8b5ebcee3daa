"""`replay`: sends stored events to one reaction or to targets of rules again, and lists and cancels replays."""

import asyncio
import re
from typing import Annotated, Any

import click
import msgspec

from runtime.bounds import fault
from runtime.cli import completion
from runtime.cli.failures import usage
from runtime.cli.flags import configured, moment, moment_or_first
from runtime.host.config import Configuration

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}").fullmatch
_Rate = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]


@click.group("replay")
def command() -> None:
    """Send stored events to one reaction again, or to targets of rules, and to nothing else.

    A replay has a name, under which it is listed, goes on if it was interrupted, and can be cancelled.
    """


def _name(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    if text is not None and _NAME(text) is None:
        raise click.BadParameter(f"{text[:40]!r}: use at most 100 letters, digits, dashes and underscores")
    return text


def _rate(_: click.Context, __: click.Parameter, given: float | None) -> float | None:
    if given is not None and (reason := fault(given, _Rate)) is not None:
        raise click.BadParameter(f"{given!r}: {reason}")
    return given


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_named = click.argument("name", callback=_name, shell_complete=completion.replays)


@command.command("start")
@click.argument("reaction", metavar="[ACTOR.REACTION]", required=False, shell_complete=completion.reactions)
@click.option(
    "--rule",
    "rules",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.rules,
    help="Send the events that this rule matches to its targets; repeatable. It may be disabled.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.routed_targets,
    help="Only to this target of the rules; repeatable (default: all of them).",
)
@click.option(
    "--since", "--from", "since",
    callback=moment_or_first,
    metavar="WHEN",
    help="Events from this time on: 2h (ago), 2026-03-01T12:00Z, or first for all (default with --rule).",
)  # fmt: skip
@click.option(
    "--until", callback=moment, metavar="WHEN", help="Only older events (default: those stored at the start)."
)
@click.option("--key", metavar="KEY", help="Only events of this key.")
@click.option(
    "--archive",
    metavar="NAME",
    shell_complete=completion.archives,
    help="Read the events from an archive. Their times are those of their emits.",
)
@click.option(
    "--mode",
    type=click.Choice(("missing", "again")),
    default="missing",
    show_default=True,
    help="missing: what the actor remembers as handled is not handled again. again: everything is, once for each replay.",
)
@click.option(
    "--rate", type=float, default=500.0, show_default=True, callback=_rate, metavar="N", help="Events a second at most."
)
@click.option("--name", callback=_name, metavar="NAME", help="Name of the replay (default: from reaction and time).")
@click.option(
    "--forgotten", is_flag=True, help="With --rule: also events that a target may get again in the mode missing."
)
@click.option("--dry-run", is_flag=True, help="Only print what would be sent.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_as_json
@configured("nats.url", "namespace", "timeout")
def start(
    configuration: Configuration,
    reaction: str | None,
    rules: tuple[str, ...],
    targets: tuple[str, ...],
    forgotten: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Send the events of a stretch of time to a reaction: ACTOR.REACTION, such as orders.on_paid, or to the targets of rules.

    A process of the actor, or the router, must run. The events of each key come in order, beside live ones. If the command is interrupted,
    go on with `actorloom replay resume NAME`.
    """
    if (reaction is None) is not bool(rules):
        usage("give either ACTOR.REACTION or --rule")
    if reaction is None:
        from runtime.cli.rule_replays import start_to_targets

        start_to_targets(configuration, rules, targets, forgotten, dry_run, yes, as_json, **wanted)
        return
    if targets or forgotten:
        usage("--target and --forgotten belong to --rule")
    if wanted["since"] is None:
        usage("Missing option '--since'.")
    from runtime.cli.replays import confirm_plan, plan_replay, print_plan, start_replay

    plan = asyncio.run(plan_replay(configuration, reaction, **wanted))
    if dry_run:
        print_plan(plan, as_json)
        return
    confirm_plan(plan, yes)
    asyncio.run(start_replay(configuration, plan.replay, as_json))


@command.command("resume")
@_named
@_as_json
@configured("nats.url", "namespace", "timeout")
def resume(configuration: Configuration, name: str, as_json: bool) -> None:
    """Go on with a replay that was interrupted. If another command still runs it, that one ends."""
    from runtime.cli.replays import resume_replay

    asyncio.run(resume_replay(configuration, name, as_json))


@command.command("ls")
@_as_json
@configured("nats.url", "namespace", "timeout")
def list_(configuration: Configuration, as_json: bool) -> None:
    """List replays: those that run or were interrupted, and those that have ended in the last 30 days."""
    from runtime.cli.replays import list_replays

    asyncio.run(list_replays(configuration, as_json))


@command.command("cancel")
@_named
@_as_json
@configured("nats.url", "namespace", "timeout")
def cancel(configuration: Configuration, name: str, as_json: bool) -> None:
    """End a replay, and take back its events that wait for the actor.

    An event that a process has in hand is handled all the same.
    """
    from runtime.cli.replays import cancel_replay

    asyncio.run(cancel_replay(configuration, name, as_json))
