"""`top`: shows the load of the running services, live."""

import asyncio
import math

import click

from runtime.cli.flags import configured
from runtime.host.config import Configuration


@click.command("top")
@click.option(
    "--interval", type=click.FloatRange(0.1, 3600), default=2.0, show_default=True, help="Seconds between two looks."
)
@click.option("--count", type=click.IntRange(1), help="End after N intervals.")
@click.option("--once", is_flag=True, help="Print one table, after one interval.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each interval.")
@configured("nats.url", "namespace")
def command(configuration: Configuration, interval: float, count: int | None, once: bool, as_json: bool) -> None:
    """Show the rates, errors, mean latency, lag, waiting messages, blocked keys, dead letters and owners of all services.

    On a terminal the tables are renewed in place, and q or Ctrl-C ends the command. Elsewhere they follow each other.
    """
    from runtime.cli.failures import usage
    from runtime.cli.top import show

    if not math.isfinite(interval):
        usage(f"--interval {interval}: write a number of seconds")
    if once and count is not None:
        usage("--once and --count exclude each other")
    asyncio.run(show(configuration, interval, 1 if once else count, as_json, live=not once))
