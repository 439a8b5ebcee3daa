"""`demo`: the demonstration that is installed, which is one order through the shop, and its trace."""

import logging
import sys
from typing import TYPE_CHECKING, Final, Protocol

import click

from runtime.errors import ConfigurationError
from runtime.nats.server import DEFAULT_PORT

if TYPE_CHECKING:
    from rich.console import Console

ENTRY_POINTS: Final = "actorloom.demo"
"""The group of entry points in which a distribution offers a `Demo`: the library knows no example by name."""


class Demo(Protocol):
    """A demonstration: runs on a nats-server of its own, prints its steps on `console`, and returns the exit code."""

    async def __call__(self, console: "Console", *, leave: bool, nats_server: str | None, port: int) -> int: ...


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

    from runtime.telemetry import setup_logging

    demo = find_demo()
    setup_logging("WARNING", "text")
    if not ctx.find_root().params["debug"]:
        for handler in logging.getLogger().handlers:
            handler.addFilter(_without_trace)
    console = Console(highlight=False, soft_wrap=True)
    sys.exit(asyncio.run(demo(console, leave=leave, nats_server=nats_server, port=port)))


def find_demo() -> Demo:
    """Return the installed demo.

    Raises:
        ConfigurationError: no distribution offers one, or its module is missing.
    """
    from importlib.metadata import entry_points

    for found in entry_points(group=ENTRY_POINTS):
        try:
            return found.load()
        except ModuleNotFoundError as error:
            if error.name is None or not found.module.startswith(error.name):
                raise
    raise ConfigurationError(
        "the demo is not installed: run `pip install actorloom`, or `make setup` in a checkout of the repository"
    )


def _without_trace(record: logging.LogRecord) -> bool:
    record.exc_info = record.exc_text = record.stack_info = None
    return True
