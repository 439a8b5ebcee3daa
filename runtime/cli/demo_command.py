"""`demo`: runs the installed demonstration, which takes one order through the shop."""

import logging
import sys
from typing import TYPE_CHECKING, Final, Protocol

import click

from runtime.errors import ConfigurationError
from runtime.nats.server import DEFAULT_PORT

if TYPE_CHECKING:
    from rich.console import Console

ENTRY_POINTS: Final = "actorloom.demo"
"""The group of entry points of demos. The library finds its example by it and imports none by name."""


class Demo(Protocol):
    """An entry point of the group: runs on its own nats-server, prints on `console`, and returns the exit code."""

    async def __call__(self, console: "Console", *, leave: bool, nats_server: str | None, port: int) -> int: ...


@click.command("demo")
@click.option("--exit", "leave", is_flag=True, help="End after the order.")
@click.option(
    "--nats-server",
    metavar="FILE",
    help="The nats-server to run (default: ACTORLOOM_NATS_SERVER, or the first one found).",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    help="The port of the nats-server; another one is used if it is taken.",
)
@click.pass_context
def command(ctx: click.Context, leave: bool, nats_server: str | None, port: int) -> None:
    """Run the shop on an embedded nats-server, take one order through it, and print its trace."""
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
