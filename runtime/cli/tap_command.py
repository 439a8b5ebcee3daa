"""`tap`: shows the events of actors as they are stored."""

import asyncio

import click

from runtime.cli import completion
from runtime.cli.flags import configured, moment
from runtime.host.config import Configuration


def _since(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    return 0.0 if text == "first" else moment(context, parameter, text)


@click.command("tap")
@click.argument("subjects", nargs=-1, metavar="[SUBJECT | TYPE]...", shell_complete=completion.target("event"))
@click.option("--where", metavar="JSON", help="A pattern of the body, as reactions have it.")
@click.option("--trace", default="", metavar="ID", help="Only the events of this trace: 32 hex digits.")
@click.option(
    "--since",
    callback=_since,
    metavar="WHEN",
    help="Stored events first, from this time on: 2h (ago), 2026-03-01T12:00Z, or first for all.",
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N events.")
@click.option("--timeout", type=click.FloatRange(0.001, 31_536_000), metavar="S", help="End after S seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each event: a CloudEvent.")
@configured("nats.url", "namespace")
def command(
    configuration: Configuration,
    subjects: tuple[str, ...],
    where: str | None,
    trace: str,
    since: float | None,
    count: int | None,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Show events as they are stored, of all actors or of the given ones, until Ctrl-C.

    \b
    actorloom tap 'orders.event.*' --where '{"total": [{"numeric": [">", 100]}]}'
    actorloom tap orders.OrderCreated '*.event.*.7' --since 1h

    A subject has the wildcards of NATS, and no namespace. Its key may be left out. Events that may be missing are reported on
    stderr. With --count, the exit code is 5 if --timeout ends the command before.
    """
    from runtime.cli.tapping import show

    asyncio.run(show(configuration, subjects, where, trace.lower(), since, count, timeout, as_json))
