"""`demo`: the shop, one order through it, and its trace."""

import logging
import sys

import click

from runtime.nats.server import DEFAULT_PORT


@click.command("demo")
@click.option("--exit", "leave", is_flag=True, help="End after the order instead of staying up.")
@click.option(
    "--nats-server", metavar="FILE", help="The nats-server to run (default: ACTORLOOM_NATS_SERVER, else found)."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, help="Its port; another one if that is taken."
)
@click.pass_context
def command(ctx: click.Context, leave: bool, nats_server: str | None, port: int) -> None:
    """Run the shop on an embedded NATS, take one order from its price to its delivery, and show its trace."""
    import asyncio

    from rich.console import Console

    from actors.demo import demo
    from runtime.telemetry import setup_logging

    setup_logging("WARNING", "text")
    if not ctx.find_root().params["debug"]:
        for handler in logging.getLogger().handlers:
            handler.addFilter(_without_trace)
    console = Console(highlight=False, soft_wrap=True)
    sys.exit(asyncio.run(demo(console, leave=leave, nats_server=nats_server, port=port)))


def _without_trace(record: logging.LogRecord) -> bool:
    record.exc_info = record.exc_text = record.stack_info = None
    return True
