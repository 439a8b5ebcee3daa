"""The command line: turns arguments into calls of other rooms, and their results into output and exit codes.

Nothing imports this room but `runtime.__main__`, which calls `main`. Each command is a module of its own,
``<name>_command``, which is imported when the command is used.

Results go to stdout, everything else to stderr. Exit codes: 0 success; 1 failure; 2 invalid usage, configuration or
declaration; 3 the service replied with an error; 4 the server, service or object was not found; 5 timeout.
"""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from types import TracebackType
from typing import Any, Final

import click

from runtime.faults import error_text
from runtime.wire.printable import printable

_COMMANDS: Final = {
    "new": "Write a project with one actor.",
    "run": "Run actors until Ctrl-C or SIGTERM.",
    "query": "Send a query to a service and print its reply.",
    "command": "Send a command to a service and print its reply.",
    "emit": "Publish an event.",
    "tap": "Show events as they are stored, live.",
    "shell": "Open a Python prompt with a connected bus.",
    "ls": "List the running services.",
    "top": "Show the load of the running services, live.",
    "describe": "Show the operations, events and reactions of a service.",
    "check": "Find mistakes in the wiring of actors.",
    "graph": "Draw services, calls, events and reactions as a graph.",
    "schemas": "Show the schemas with which actors have started.",
    "contracts": "Write the contracts of actors as documents: AsyncAPI, OpenAPI, JSON Schema, HTML.",
    "health": "Check that services answer.",
    "dlq": "List, show, redrive or drop dead letters.",
    "keys": "List the keys of an actor.",
    "state": "Print the stored state of a key.",
    "timers": "List, fire or drop the timers of an actor.",
    "history": "Show the events, dead letters and timers of a key.",
    "dashboards": "Write Grafana dashboards and Prometheus alert rules of actors.",
    "export": "Print the records of an actor as JSON lines.",
    "import": "Store edited records of a stopped actor.",
    "archives": "List, put or delete archives of events.",
    "replay": "Send stored events to one reaction or to targets of rules again.",
    "rules": "Send events to targets by rules: list, put, delete, test and apply rules.",
    "targets": "List, put, pause, resume and delete the targets of rules.",
    "repartition": "Store the keys of a stopped actor in another number of partitions.",
    "upgrade": "Bring the streams of an earlier version to the form of this one.",
    "doctor": "Check the NATS server and the services for problems and risks.",
    "config": "Show the settings and their origins.",
    "demo": "Run the shop and take one order through it.",
}
"""The summary of each command by its name, in the order of the help."""


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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            matches = get_close_matches(args[0], _COMMANDS, 1)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {matches[0]!r}?" if matches else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The summaries come from the table, so that the help does not import the commands.
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        from runtime.cli.failures import KNOWN, explained

        signal.signal(signal.SIGINT, signal.default_int_handler)  # `runtime.__main__` has replaced it for the start
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:
            raise  # the reader of stdout has ended; click ends the command without a message
        except click.ClickException as error:
            error.message = printable(error.message)  # pyright: ignore[reportAttributeAccessIssue]
            raise
        except KNOWN as error:
            if ctx.params["debug"]:
                raise
            raise explained(error) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, envvar="ACTORLOOM_DEBUG", help="Show stack traces of failures.")
@click.version_option(package_name="actorloom", prog_name="actorloom")
def actorloom(debug: bool) -> None:
    """Actors that query, command, emit and react over NATS.

    Settings come from flags, then from ACTORLOOM_* and NATS_* variables, then from actorloom.toml, then from defaults.
    """
    sys.excepthook = _print_stack if debug else _print_internal_error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line with `arguments` (by default those of the process) and exit with its code."""
    if (here := os.getcwd()) not in sys.path:
        if hiding := _hiding_modules(here):
            click.echo(f"Error: {hiding[0]} hides a package that Actorloom needs: rename it", err=True)
            sys.exit(2)
        # `run` finds modules of the working directory before installed packages, but not before modules of Python.
        installed = (place for place, path in enumerate(sys.path) if path.endswith("-packages"))
        sys.path.insert(next(installed, len(sys.path)), here)
    if "_ACTORLOOM_COMPLETE" in os.environ:
        import_module("runtime.cli.completion")  # its script for Bash
    try:
        actorloom(arguments, prog_name="actorloom")
    except SystemExit as ended:
        _end(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
        raise


_NEEDED = ("anyio", "click", "msgspec", "nats", "opentelemetry", "rich", "uvloop", "watchfiles")
"""The packages that the library imports, many of them later than at the start."""


def _hiding_modules(here: str) -> list[str]:
    """Return the files of the working directory that are imported instead of a package in `_NEEDED`."""
    files = [os.path.join(here, *file) for name in _NEEDED for file in ((f"{name}.py",), (name, "__init__.py"))]
    return [file for file in files if os.path.isfile(file)]


def _end(code: int) -> None:
    """End the process at once if tasks or threads of the application are left, for which Python would wait."""
    from runtime.cli.failures import UNFINISHED

    if UNFINISHED:
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)


def _print_internal_error(kind: type[BaseException], error: BaseException, _: object) -> None:
    from runtime.cli.output import print_note

    print_note(f"Internal error: {kind.__name__}: {printable(error_text(error))}")
    print_note("Use `actorloom --debug …` for the stack trace.")


def _print_stack(kind: type[BaseException], error: BaseException, stack: TracebackType | None) -> None:
    from runtime.cli.output import print_note

    print_note("".join(traceback.format_exception(kind, error, stack)).rstrip("\n"))
