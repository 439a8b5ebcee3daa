"""Replays to targets of rules on the command line: planned, shown and started."""

import asyncio
from datetime import UTC, datetime

import msgspec

from runtime.admin.replay import NotFound
from runtime.cli.failures import NOT_FOUND, Failure, usage
from runtime.cli.output import print_json, print_note, print_table, time_text
from runtime.cli.replays import confirm, start_replay
from runtime.cli.router_bus import router_bus
from runtime.host.config import Configuration
from runtime.router.replay import Plan, Request, prepare, refuse_forgotten
from runtime.storage.replays import Mode


def start_to_targets(
    configuration: Configuration,
    rules: tuple[str, ...],
    targets: tuple[str, ...],
    forgotten: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    *,
    since: float | None,
    until: float | None,
    key: str | None,
    mode: Mode,
    rate: float,
    name: str | None,
    archive: str | None,
) -> None:
    """Send events to the targets of rules, or only print how many they are.

    Raises:
        Failure: There is nothing to send.
        Refused: Events are older than a target remembers deliveries, and `forgotten` is false.
        ActorError, TimeoutError: The server or the router does not answer, or refuses it.
    """
    since = since or 0.0
    if until is not None and until <= since:
        usage(f"--since is {time_text(since)}, and --until is not later: {time_text(until)}")
    request = Request(
        name=name or f"{rules[0][:60]}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}",
        targets=targets,
        mode=mode,
        since=since,
        until=until,
        key=key,
        rate=rate,
        archive=archive,
    )
    plan = asyncio.run(_plan(configuration, rules, request))
    if dry_run:
        _print(plan, as_json)
        return
    if not forgotten:
        refuse_forgotten(plan)
    confirm(_question(plan), yes)
    asyncio.run(start_replay(configuration, plan.replay, as_json))


async def _plan(configuration: Configuration, rules: tuple[str, ...], request: Request) -> Plan:
    async with router_bus(configuration) as bus:
        try:
            return await prepare(bus, rules, request)
        except NotFound as error:
            raise Failure(str(error), NOT_FOUND) from None


def _print(plan: Plan, as_json: bool) -> None:
    """Print the counts of a plan by rule, target and type, as a table or as JSON."""
    if as_json:
        print_json(
            {
                "events": plan.replay.total,
                "deliveries": plan.deliveries,
                "forgotten": plan.forgotten,
                "remember": plan.remember,
                "counts": [
                    msgspec.to_builtins(each) | {"first": time_text(each.first), "last": time_text(each.last)}
                    for each in plan.counts
                ],
            }
        )
        return
    head = ("rule", "target", "event", "events", "first", "last", "forgotten")
    rows = [
        (
            each.rule,
            each.target,
            each.event,
            each.events,
            time_text(each.first),
            time_text(each.last),
            each.forgotten,
        )
        for each in plan.counts
    ]
    print_table(head, rows)
    print_note(_question(plan))


def _question(plan: Plan) -> str:
    """Return a plan in one sentence or two."""
    replay = plan.replay
    text = f"{replay.total} events for {replay.receiver}, at most {replay.rate:g} a second"
    if replay.mode == "again":
        return f"{text}. The mode is again: each target gets all of them, also those that it got before."
    if plan.forgotten:
        return (
            f"{text}. The mode is missing, but {plan.forgotten} of them are older than the {plan.remember:g} s for which a "
            "target remembers what it got: it may get these again."
        )
    return f"{text}. The mode is missing: no target gets what it got before."
