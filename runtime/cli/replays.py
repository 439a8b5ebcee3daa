"""Replays on the command line: started, resumed, listed and cancelled."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from runtime import clocks
from runtime.admin.replay import NotFound, Plan, Request, Runner, ToReaction, Way, begin, cancel, prepare, take_over
from runtime.cli.client import connected, names
from runtime.cli.failures import FAILED, NOT_FOUND, Failure, exit_code, usage
from runtime.cli.output import print_json, print_note, print_table, time_text
from runtime.errors import ActorError, CodecError
from runtime.host.config import Configuration
from runtime.nats.jetstream.client import JetStream
from runtime.storage.replays import Entry, Mode, Replay, Replays
from runtime.wire.subjects import valid_name

_SILENT: Final = 10.0
"""Seconds without a sign of the command that runs a replay, after which the replay is listed as interrupted."""
_PROGRESS: Final = 2.0
"""Seconds between two lines about the progress."""


async def plan_replay(
    configuration: Configuration,
    reaction: str,
    since: float,
    *,
    until: float | None,
    key: str | None,
    mode: Mode,
    rate: float,
    name: str | None,
    archive: str | None,
) -> Plan:
    """Return the plan of a replay. Raises `Failure` if there is nothing to send."""
    actor, _, wanted = reaction.partition(".")
    if not valid_name(actor) or not wanted or "." in wanted:
        usage(f"{reaction!r}: write actor.reaction, for example orders.on_paid")
    if until is not None and until <= since:
        usage(f"--since is {time_text(since)}, and --until is not later: {time_text(until)}")
    name = name or f"{wanted[:60]}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    request = Request(
        name=name, reaction=wanted, mode=mode, since=since, until=until, key=key, rate=rate, archive=archive
    )
    async with _opened(configuration) as jetstream:
        return await prepare(jetstream, names(configuration, actor), request)


def print_plan(plan: Plan, as_json: bool) -> None:
    """Print the events of a plan by type, as a table or as JSON."""
    if as_json:
        counts = [
            msgspec.to_builtins(each) | {"first": time_text(each.first), "last": time_text(each.last)}
            for each in plan.counts
        ]
        print_json(
            {
                "events": plan.replay.total,
                "forgotten": plan.forgotten,
                "remember": plan.remember,
                "counts": counts,
            }
        )
        return
    head = ("event", "stream", "reaction", "events", "first", "last", "forgotten")
    rows = [
        (
            each.event,
            each.stream,
            each.reaction,
            each.events,
            time_text(each.first),
            time_text(each.last),
            each.forgotten,
        )
        for each in plan.counts
    ]
    print_table(head, rows)
    print_note(_question(plan))


def confirm_plan(plan: Plan, yes: bool) -> None:
    """Print a plan in a sentence, and ask unless `yes`. Ends the command if the answer is no, or if nobody can be asked."""
    confirm(_question(plan), yes)


def confirm(question: str, yes: bool) -> None:
    """Print a plan in a sentence, and ask unless `yes`. Ends the command if the answer is no, or if nobody can be asked."""
    print_note(question)
    if yes:
        return
    if not sys.stdin.isatty():
        usage("nobody can be asked here: look at the numbers with --dry-run, and give --yes")
    click.confirm("Send them?", abort=True, err=True)


async def start_replay(configuration: Configuration, replay: Replay, as_json: bool) -> None:
    """Start a replay and run it to its end. Raises `Failure`."""
    async with _opened(configuration) as jetstream:
        entry = await begin(jetstream, names(configuration, replay.actors[0]), replay)
        await _run(configuration, jetstream, entry, as_json)


async def resume_replay(configuration: Configuration, name: str, as_json: bool) -> None:
    """Go on with a replay, to its end. Raises `Failure`."""
    async with _opened(configuration) as jetstream:
        entry = await take_over(jetstream, configuration.settings.namespace, name)
        await _run(configuration, jetstream, entry, as_json)


async def list_replays(configuration: Configuration, as_json: bool) -> None:
    """Print all replays, as a table or a JSON array."""
    async with _opened(configuration) as jetstream:
        everything = [entry async for entry in Replays(jetstream, configuration.settings.namespace).read()]
        now = jetstream.connection.clock.now()
    for error in everything:
        if isinstance(error, CodecError):
            print_note(str(error))
    found = [entry for entry in everything if isinstance(entry, Entry)]
    found.sort(key=lambda entry: entry.replay.started)
    if as_json:
        print_json([_data(entry.replay, _status(entry, now)) for entry in found])
    elif found:
        head = ("name", "receiver", "mode", "since", "until", "sent", "of", "status")
        print_table(head, [_row(entry, now) for entry in found])
    else:
        print_note("no replays")


async def cancel_replay(configuration: Configuration, name: str, as_json: bool) -> None:
    """Cancel a replay, and print how many of its events were sent and taken back. Raises `Failure`."""
    async with _opened(configuration) as jetstream:
        replay = await cancel(jetstream, configuration.settings.namespace, name)
    if as_json:
        print_json(_data(replay, replay.status))
    else:
        print_note(f"{name}: {replay.status}. {_sent(replay)}")


async def _run(configuration: Configuration, jetstream: JetStream, entry: Entry, as_json: bool) -> None:
    name = entry.replay.name
    print_note(f"{name}: sends events to {entry.replay.receiver}")
    go_on = f"go on with `actorloom replay resume {name}`"
    try:
        replay = await Runner(jetstream, _way(configuration, jetstream, entry.replay), entry, _progress()).run()
    except asyncio.CancelledError:
        print_note(f"{name}: interrupted; {go_on}")
        raise
    except (ActorError, TimeoutError) as error:
        raise Failure(f"{name}: {error or 'no answer in time'}; {go_on}", exit_code(error)) from None
    cancelled = replay.status == "cancelled"
    if as_json:
        # The command that cancels it takes the events back after this one has stopped.
        print_json(_data(replay, replay.status) | ({"takenBack": None} if cancelled else {}))
    text = f"{name}: {replay.status}. {_progress_text(replay)}"
    if cancelled:
        raise Failure(text, FAILED)
    if not as_json:
        print_note(text)


def _way(configuration: Configuration, jetstream: JetStream, replay: Replay) -> Way:
    if replay.actor:
        return ToReaction(jetstream, names(configuration, replay.actor))
    from runtime.router.replay import ToTargets  # loads the router

    return ToTargets(jetstream, configuration.settings.namespace, replay)


def _progress() -> Callable[[Replay, int], None]:
    """Return a function that prints the progress of a replay from time to time."""
    last = clocks.elapsed()

    def report(replay: Replay, waiting: int) -> None:
        nonlocal last
        if replay.status == "running" and clocks.elapsed() - last >= _PROGRESS:
            last = clocks.elapsed()
            print_note(
                f"{replay.name}: {replay.sent} of {replay.total} are sent, {waiting} wait for {', '.join(replay.actors)}"
            )

    return report


@asynccontextmanager
async def _opened(configuration: Configuration) -> AsyncGenerator[JetStream]:
    async with connected(configuration) as connection:
        try:
            yield JetStream(connection, configuration.settings.timeout)
        except NotFound as error:
            raise Failure(str(error), NOT_FOUND) from None


def _question(plan: Plan) -> str:
    """Return a plan in one sentence or two."""
    replay = plan.replay
    text = f"{replay.total} events for {replay.actor}.{replay.reaction}, at most {replay.rate:g} a second"
    if replay.mode == "again":
        return f"{text}. The mode is again: all of them are handled, also those that were handled before."
    if not plan.remember:
        return f"{text}. {replay.actor} has no state and remembers none of them: all are handled again."
    if plan.forgotten:
        return (
            f"{text}. The mode is missing, but {plan.forgotten} of them are older than the {plan.remember:g} s for which "
            f"{replay.actor} remembers what it has handled: it may handle these again."
        )
    return f"{text}. The mode is missing: those that {replay.actor} has handled are not handled again."


def _progress_text(replay: Replay) -> str:
    return f"{replay.sent} of {replay.total} events were sent"


def _sent(replay: Replay) -> str:
    text = _progress_text(replay)
    if replay.status != "cancelled":
        return text
    return f"{text}, and {replay.taken_back} of {'them' if replay.actor else 'their deliveries'} taken back"


def _status(entry: Entry, now: float) -> str:
    status = entry.replay.status
    return "interrupted" if status == "running" and now - entry.time > _SILENT else status


def _row(entry: Entry, now: float) -> tuple[object, ...]:
    replay = entry.replay
    since = time_text(replay.since) if replay.since else "first"
    return (
        replay.name,
        replay.receiver,
        replay.mode,
        since,
        time_text(replay.until),
        replay.sent,
        replay.total,
        _status(entry, now),
    )


def _data(replay: Replay, status: str) -> dict[str, Any]:
    """Return a replay for JSON."""
    return {
        "name": replay.name,
        "reaction": replay.receiver if replay.actor else None,
        "rules": [rule.name for rule in replay.rules],
        "targets": replay.targets,
        "mode": replay.mode,
        "since": time_text(replay.since),
        "until": time_text(replay.until),
        "key": replay.key,
        "archive": replay.archive,
        "rate": replay.rate,
        "started": time_text(replay.started),
        "status": status,
        "total": replay.total,
        "sent": replay.sent,
        "takenBack": replay.taken_back,
    }
