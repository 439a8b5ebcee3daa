"""The command line: ``python -m bench [--quick] [names…]``, ``reference``, ``compare A.json B.json``, ``check``,
``pictures A.json``, ``pages A.json``, ``simulate placement``."""

import asyncio
import importlib
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import check, compare, results, table
from bench.process import ChildError
from bench.suite import Suite

QUICK = ("query", "actor", "turn", "emit", "reaction", "hot_key", "ladder")
QUESTIONS = (*QUICK, "latency", "keys", "growth", "scale", "peers", "in_process", "rules")
ALL = (*QUESTIONS, "instructions", "profile")
"""All questions. The last two run only if named: one takes minutes under valgrind, the other compares nothing."""

REFERENCE = results.RESULTS / "reference.json"
"""The reference run: the one that the pages and pictures show."""

_WIDTH = 180


async def measure(
    names: tuple[str, ...],
    quick: bool,
    console: Console,
    only: frozenset[str] = frozenset(),
    large: bool = False,
) -> results.Report:
    """Run the questions one after another and return the report.

    A question that fails is listed in `Report.failed`, and the next one runs.

    Args:
        names: Modules of this package, in the order in which they run.
        quick: Run three short rounds per setting instead of five longer ones.
        console: Shows the progress bars.
        only: Settings to measure; all if empty.
        large: Measure a million stored keys as well.
    """
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


class _RunByDefault(click.Group):
    """A group that inserts ``run`` if no command is named: ``python -m bench emit`` means ``python -m bench run emit``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_RunByDefault)
def main() -> None:
    """Measure Actorloom and raw nats-py side by side. The default command is run."""


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(ALL))
@click.option(
    "--quick", is_flag=True, help="Run three short rounds of the main questions, in about a minute and a half."
)
@click.option(
    "--large", is_flag=True, help="Measure a million stored keys as well: two more minutes, half a gigabyte of disk."
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Path of the JSON file (default: a new file in bench/results/)."
)
def run(names: tuple[str, ...], quick: bool, large: bool, output: Path | None) -> None:
    """Run all questions, or the named ones. Print figures and goals; write JSON and pictures."""
    console = Console(stderr=True)
    report = asyncio.run(measure(names or (QUICK if quick else QUESTIONS), quick, console, large=large))
    _finish(report, output or results.RESULTS / f"{report.when.replace(':', '').split('+')[0]}.json", console)
    sys.exit(1 if report.failed else 0)


@main.command()
@click.option("--quick", is_flag=True, help="Run three short rounds, to try the command.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=REFERENCE, show_default=True, help="Path of the JSON file."
)
def reference(quick: bool, output: Path) -> None:
    """Run everything on a quiet machine, in about 20 minutes. Write JSON, pictures, and the figures in docs/."""
    console = Console(stderr=True)
    report = asyncio.run(measure(ALL, quick, console, large=not quick))
    _finish(report, output, console)
    _write_pages(report)
    placed = _place(1)
    sys.exit(0 if placed and not report.failed else 1)


def _finish(report: results.Report, path: Path, console: Console) -> None:
    """Save a report, print its figures and goals, and draw its pictures."""
    results.save(report, path)
    table.show(report, _console())
    drawn = _draw(report, path)
    console.print(f"{report.seconds:.0f} s; wrote {path}{f' and {drawn} pictures next to it' if drawn else ''}")
    for failed in report.failed:
        console.print(failed, style="red", markup=False)


@main.command("compare")
@click.argument("a", type=click.Path(exists=True, path_type=Path))
@click.argument("b", type=click.Path(exists=True, path_type=Path))
def compare_command(a: Path, b: Path) -> None:
    """Print the figures that changed from run A to run B by more than noise. The exit code is 1 if one got worse."""
    worse = compare.show(results.load(a), results.load(b), _console())
    sys.exit(1 if worse else 0)


@main.command("check")
@click.option("--keep", is_flag=True, help="Save the ratios of this run as the new limits.")
def check_command(keep: bool) -> None:
    """Run a short part and compare it with bench/ratios.json. The exit code is 1 if a ratio exceeds its limit."""
    console = _console()
    report = asyncio.run(measure(check.QUESTIONS, True, Console(stderr=True), check.SETTINGS))
    for failed in report.failed:
        console.print(failed, style="red", markup=False)
    if keep:
        check.save_baselines(report)
    sys.exit(0 if check.within_limits(report, console) and not report.failed else 1)


@main.command()
@click.argument("what", type=click.Choice(("placement",)))
@click.option("--seed", default=1, show_default=True, help="The seed of all choices.")
def simulate(what: str, seed: int) -> None:
    """Run the placement of partitions over 1,000 simulated members. The exit code is 1 if a goal is missed."""
    sys.exit(0 if _place(seed) else 1)


@main.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
def pictures(path: Path) -> None:
    """Draw the pictures of a run next to its JSON file."""
    click.echo(f"{_draw(results.load(path), path)} pictures next to {path}")


@main.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
def pages(path: Path) -> None:
    """Write the figures of a run into the pages in docs/. Tables for which it has no figures stay as they are."""
    _write_pages(results.load(path))


def _write_pages(report: results.Report) -> None:
    from bench.pages import write

    click.echo(f"wrote in docs/: {', '.join(write(report)) or 'nothing'}")


def _place(seed: int) -> bool:
    from bench.simulate import show

    return show(seed, _console())


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _WIDTH)


def _draw(report: results.Report, path: Path) -> int:
    from bench.pictures import draw  # importing matplotlib takes half a second

    return len(draw(report, path.parent, path.stem))


if __name__ == "__main__":
    main(prog_name="python -m bench")
