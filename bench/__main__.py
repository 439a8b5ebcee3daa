"""The command line: `python -m bench [--quick] [names…]`, `compare A.json B.json`, `check`, `pictures A.json`."""

import asyncio
import importlib
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import check as checking
from bench import compare as comparing
from bench import results, table
from bench.process import ChildError
from bench.suite import Suite

QUICK = ("query", "actor", "turn", "emit", "reaction", "hot_key", "ladder")
QUESTIONS = (*QUICK, "latency", "keys", "growth", "peers", "in_process")
ALL = (*QUESTIONS, "instructions", "profile")
"""With what runs only by name: minutes of valgrind, and a table that is no comparison."""

_WIDTH = 180


async def measure(
    names: tuple[str, ...],
    quick: bool,
    console: Console,
    only: frozenset[str] = frozenset(),
    large: bool = False,
) -> results.Report:
    """Run the questions one after another and return the report; one that fails is said, and the others go on."""
    report = results.new_report(quick)
    begun = time.monotonic()
    columns = (TextColumn("{task.description:30}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console) as progress,
        tempfile.TemporaryDirectory(prefix="actorloom-bench-") as logs,
    ):
        suite = Suite(report, progress, Path(logs), only, large)
        for name in names:
            try:
                async with suite.question():
                    await importlib.import_module(f"bench.{name}").run(suite)
            except ChildError as error:
                report.failed.append(f"{name}: {error}")
    report.seconds = time.monotonic() - begun
    return report


class _Default(click.Group):
    """`python -m bench emit --quick` is `python -m bench run emit --quick`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Default)
def main() -> None:
    """Measure Actorloom beside raw nats-py. Without a command: run."""


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(ALL))
@click.option("--quick", is_flag=True, help="Three short rounds of the main questions, in about a minute and a half.")
@click.option(
    "--large", is_flag=True, help="A million stored keys, too: two minutes more, and half a gigabyte of disk."
)
@click.option("--output", type=click.Path(path_type=Path), help="Where to write the JSON (bench/results/ otherwise).")
def run(names: tuple[str, ...], quick: bool, large: bool, output: Path | None) -> None:
    """Run the suite, or the questions named; print the figures and the goals; write JSON and pictures."""
    console = Console(stderr=True)
    report = asyncio.run(measure(names or (QUICK if quick else QUESTIONS), quick, console, large=large))
    path = output or results.RESULTS / f"{report.when.replace(':', '').split('+')[0]}.json"
    results.save(report, path)
    table.show(report, _console())
    drawn = _draw(report, path)
    console.print(f"{report.seconds:.0f} s; written to {path}{f' and {drawn} pictures beside it' if drawn else ''}")
    for failed in report.failed:
        console.print(failed, style="red", markup=False)
    sys.exit(1 if report.failed else 0)


@main.command()
@click.argument("a", type=click.Path(exists=True, path_type=Path))
@click.argument("b", type=click.Path(exists=True, path_type=Path))
def compare(a: Path, b: Path) -> None:
    """Say what got better or worse from run A to run B, beyond the noise. Exit code 1: something got worse."""
    worse = comparing.show(results.load(a), results.load(b), _console())
    sys.exit(1 if worse else 0)


@main.command()
@click.option("--keep", is_flag=True, help="Hold the ratios of this run from now on.")
def check(keep: bool) -> None:
    """Run a short part and hold it to the ratios in bench/ratios.json. Exit code 1: one does not hold."""
    console = _console()
    report = asyncio.run(measure(checking.QUESTIONS, True, Console(stderr=True), checking.SETTINGS))
    for failed in report.failed:
        console.print(failed, style="red", markup=False)
    if keep:
        checking.keep(report)
    sys.exit(0 if checking.check(report, console) and not report.failed else 1)


@main.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
def pictures(path: Path) -> None:
    """Draw the pictures of a run beside its JSON."""
    click.echo(f"{_draw(results.load(path), path)} pictures beside {path}")


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _WIDTH)


def _draw(report: results.Report, path: Path) -> int:
    from bench.pictures import draw  # matplotlib takes half a second to import

    return len(draw(report, path.parent, path.stem))


if __name__ == "__main__":
    main(prog_name="python -m bench")
