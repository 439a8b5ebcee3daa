"""The command line: `python -m bench [--quick] [names…]`, `compare A.json B.json`, `check`."""

import asyncio
import importlib
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import results, table
from bench.process import ChildError
from bench.suite import Suite

QUESTIONS = ("query", "actor", "turn", "emit", "reaction", "hot_key")
QUICK = QUESTIONS


async def measure(names: tuple[str, ...], quick: bool, console: Console) -> results.Report:
    """Run the questions one after another and return the report; one that fails is said, and the others go on."""
    report = results.new_report(quick)
    begun = time.monotonic()
    columns = (TextColumn("{task.description:28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console) as progress,
        tempfile.TemporaryDirectory(prefix="actorloom-bench-") as logs,
    ):
        suite = Suite(report, progress, Path(logs))
        for name in names:
            try:
                async with suite.question():
                    await importlib.import_module(f"bench.{name}").run(suite)
            except ChildError as error:
                report.failed.append(f"{name}: {error}")
    report.seconds = time.monotonic() - begun
    return report


@click.group(invoke_without_command=True, context_settings={"ignore_unknown_options": False})
@click.pass_context
def main(context: click.Context) -> None:
    """Measure Actorloom beside raw nats-py; without a command: `run`."""
    if context.invoked_subcommand is None:
        context.invoke(run)


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(QUESTIONS))
@click.option("--quick", is_flag=True, help="Three short rounds of the main questions, in about a minute.")
@click.option("--output", type=click.Path(path_type=Path), help="Where to write the JSON (bench/results/ otherwise).")
def run(names: tuple[str, ...] = (), quick: bool = False, output: Path | None = None) -> None:
    """Run the suite, or the questions named."""
    console = Console(stderr=True)
    report = asyncio.run(measure(names or (QUICK if quick else QUESTIONS), quick, console))
    path = output or results.RESULTS / f"{report.when.replace(':', '').split('+')[0]}.json"
    results.save(report, path)
    table.show(report, Console(width=None if sys.stdout.isatty() else 170))
    console.print(f"{report.seconds:.0f} s; written to {path}")
    for failed in report.failed:
        console.print(failed, style="red", markup=False)
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in main.commands:
        arguments = ["run", *arguments] if arguments[:1] not in (["--help"], ["-h"]) else arguments
    main(arguments, prog_name="python -m bench")
