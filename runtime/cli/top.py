"""The tables of `top`: the load of each service, and that of each operation."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from runtime.admin.figures import Figures, Rate, Watch
from runtime.cli.client import connected
from runtime.cli.failures import NOT_FOUND, Failure
from runtime.cli.output import echo, print_json, table_lines
from runtime.cli.owners import owned_text, ownership_data
from runtime.cli.screen import Screen, is_terminal
from runtime.errors import ActorError
from runtime.host.config import Configuration
from runtime.wire.cloudevents import rfc3339

_HEAD = (
    "service", "namespace", "instances", "req/s", "err/s", "latency", "lag", "waiting", "blocked", "dead", "partitions",
)  # fmt: skip
_OPERATIONS = ("operation", "req/s", "err/s", "latency")


async def show(configuration: Configuration, interval: float, count: int | None, as_json: bool, *, live: bool) -> None:
    """Show the figures of the services again and again.

    Args:
        configuration: The settings.
        interval: Seconds between two looks.
        count: The number of tables; None for no end.
        as_json: Whether to print a line of JSON in place of each table.
        live: Whether to renew the tables in place, if stdin and stdout are a terminal.

    Raises:
        Failure: No service runs, and there is no other table.
        ActorError, TimeoutError: The server cannot be asked at the start.
    """
    async with connected(configuration) as connection:
        watch = Watch(connection, configuration.settings.namespace)
        await watch.look()
        on_screen = live and not as_json and is_terminal()
        with Screen() if on_screen else nullcontext() as screen:
            shown = 0
            while count is None or shown < count:
                shown += 1
                if screen is None:
                    await asyncio.sleep(interval)
                elif await screen.quits(interval):
                    return
                try:
                    figures, error = await watch.look(), ""
                except (ActorError, TimeoutError) as failed:
                    if screen is None:
                        raise
                    figures, error = [], str(failed)
                if screen is not None:
                    screen.show([_title(figures, error), *_tables(figures, screen.width)])
                elif as_json:
                    print_json(
                        {"time": rfc3339(connection.clock.now()), "interval": interval, "services": _data(figures)}
                    )
                elif figures:
                    for line in (*([""] if shown > 1 else []), *_tables(figures)):
                        echo(line)
                elif count == 1:
                    raise Failure("no service is running", NOT_FOUND)
                else:
                    echo("no service is running")
                sys.stdout.flush()


def _title(figures: Sequence[Figures], error: str) -> str:
    if error:
        return f"the services cannot be asked: {error}"
    number = f"{len(figures)} service{'s' * (len(figures) > 1)}" if figures else "no service is running"
    return f"{number}; q ends"


def _tables(figures: Sequence[Figures], width: int | None = None) -> list[str]:
    """Return the lines of both tables. The second one has the operations with requests, the busiest first."""
    if not figures:
        return []
    head, rows = (
        list(_HEAD),
        [
            [
                each.name,
                each.namespace or "-",
                each.instances,
                *_cells(each.total),
                *("?" if number is None else number for number in (each.lag, each.waiting, each.blocked, each.dead)),
                owned_text(each.keyed, each.ownership),
            ]
            for each in figures
        ],
    )
    if not any(each.namespace for each in figures):  # the table is to fit into 80 columns
        for row in (head, *rows):
            del row[1]
    busy = [(each.name, rate) for each in figures for rate in each.operations if rate.requests]
    busy.sort(key=lambda pair: -pair[1].requests)
    operations = [(f"{service}.{rate.name}", *_cells(rate)) for service, rate in busy]
    return [*table_lines(head, rows, width), "", *table_lines(_OPERATIONS, operations, width)]


def _cells(rate: Rate) -> tuple[str, str, str]:
    latency = "-" if rate.latency is None else f"{rate.latency * 1000:.2f} ms"
    return f"{rate.requests:.1f}", f"{rate.errors:.1f}", latency


def _data(figures: Sequence[Figures]) -> list[dict[str, Any]]:
    return [
        {
            "name": each.name,
            "namespace": each.namespace,
            "version": each.version,
            "instances": each.instances,
            "partitions": ownership_data(each.ownership),
            **_rate_data(each.total),
            "lag": each.lag,
            "waiting": each.waiting,
            "blocked": each.blocked,
            "dead": each.dead,
            "operations": {rate.name: _rate_data(rate) for rate in each.operations},
        }
        for each in figures
    ]


def _rate_data(rate: Rate) -> dict[str, float | None]:
    return {"requests": rate.requests, "errors": rate.errors, "latency": rate.latency}
