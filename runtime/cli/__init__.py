"""The command line: arguments in, exit codes out.

0: done. 1: failed. 2: wrong usage, configuration or declaration. 3: the service answered with an error. 4: nobody is
there. 5: no answer in time. What was asked for goes to stdout, all else to stderr.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import click

_COMMANDS: Final = {
    "run": "Run actors until Ctrl-C or SIGTERM.",
    "query": "Ask a service, and print its reply.",
    "command": "Tell a service to do something, and print its reply.",
    "emit": "Publish an event.",
    "ls": "List the services that are there.",
    "describe": "Show what a service offers, emits and reacts to.",
    "graph": "Draw which service reacts to whose events.",
    "health": "Check that services answer.",
    "dlq": "Look at dead letters, send them again, drop them.",
    "doctor": "Check that NATS is as we need it, and what is risky.",
    "config": "Show the settings and where they come from.",
    "demo": "Run the shop, and one order through it.",
}
"""Name and summary of each command, in the order of the help; ``name`` lives in ``runtime.cli.<name>``, made when used."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"runtime.cli.{cmd_name}_command")
        found = module.command
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # From the table: help must not import what the commands need.
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        from runtime.cli.failures import KNOWN, explained

        try:
            return super().invoke(ctx)
        except KNOWN as error:
            if ctx.params["debug"]:
                raise
            raise explained(error) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, envvar="ACTORLOOM_DEBUG", help="Show stack traces of failures.")
@click.version_option(package_name="actorloom", prog_name="actorloom")
def actorloom(debug: bool) -> None:
    """Actors that query, command, emit and react over NATS.

    Settings come from flags, else ACTORLOOM_* and NATS_* variables, else actorloom.toml, else defaults.
    """
    if not debug:
        sys.excepthook = _say_internal_error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and exit with its code."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)  # a console script has its own directory there, and the user's modules are here
    try:
        actorloom(arguments, prog_name="actorloom")
    except KeyboardInterrupt:
        sys.exit(130)


def _say_internal_error(kind: type[BaseException], error: BaseException, _: object) -> None:
    click.echo(
        f"Internal error: {kind.__name__}: {error}\nRun with --debug (before the command) for the details.", err=True
    )
