"""``python -m tests.chaos``: runs the scenarios and prints their results. The exit code is 1 if a promise was broken."""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.chaos.cell import Result, Setting
from tests.chaos.scenarios import ALL


def main() -> int:
    """Run the selected scenarios; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the faults; the same seed repeats them, apart from timing"
    )
    parser.add_argument("--only", action="append", choices=list(ALL), help="run only this scenario; may be repeated")
    parser.add_argument("--short", action="store_true", help="run the short version, as CI does")
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of the soak")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="directory for data and logs, which are kept")
    parser.add_argument("--table", action="store_true", help="print the table of docs/guarantees.md at the end")
    arguments = parser.parse_args()
    if arguments.list:
        for name, scenario in ALL.items():
            print(f"{name:26} {(scenario.__doc__ or '').strip()}")
        return 0
    results = [
        run(name, arguments.seed, short=arguments.short, seconds=arguments.seconds, keep=arguments.keep)
        for name in arguments.only or ALL
    ]
    if arguments.table:
        print("\n| Scenario | Faults | lost | twice | reads | stale | longest stall, s | took, s |")
        print("|---|---|---|---|---|---|---|---|")
        print("\n".join(map(row, results)))
    if reads := sum(result.reads for result in results):
        # A control must find stale answers; they are not counted.
        stale = sum(result.stale for result in results if not result.name.startswith("control-"))
        print(f"\n{reads:,} reads were checked, {stale:,} outside of controls were stale")
    failed = [result for result in results if not result.good]
    print(f"\n{len(results) - len(failed)} of {len(results)} scenarios passed, seed {arguments.seed}")
    return 1 if failed else 0


def run(name: str, seed: int, *, short: bool = False, seconds: float = 60.0, keep: Path | None = None) -> Result:
    """Run one scenario, print its result and return it.

    Args:
        name: A key of `ALL`.
        seed: Seed of the faults.
        short: Run the short version.
        seconds: Duration of the soak.
        keep: Directory for data and logs. By default they are removed if the scenario passes.
    """
    directory = (keep / name) if keep else Path(tempfile.mkdtemp(prefix=f"actorloom-chaos-{name}-"))
    directory.mkdir(parents=True, exist_ok=True)
    setting = Setting(
        seed, directory, short=short, seconds=seconds, progress=lambda text: print(f"    {text}", flush=True)
    )
    print(f"\n{name}: {(ALL[name].__doc__ or '').strip()}", flush=True)
    begun = time.monotonic()
    try:
        result = asyncio.run(ALL[name](setting))
    except Exception as error:  # noqa: BLE001 - the scenario has failed, and the next one runs
        result = Result(name, seed)
        result.problems += ["the scenario raised:", *traceback.format_exception(error)]
    if not short:
        result.problems += result.slow
    result.seconds = time.monotonic() - begun
    print(describe(result, short), flush=True)
    if result.good and not keep:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print(f"    logs and data: {directory}")
    return result


def row(result: Result) -> str:
    """Return a result as a row of the table in docs/guarantees.md; a dash for a figure that it does not measure."""
    reads, stale = (f"{result.reads:,}", f"{result.stale:,}") if result.reads else ("–", "–")
    stall = f"{result.stall:.2f}" if result.stall else "–"
    counts = f"{result.lost:,} | {result.twice:,} | {reads} | {stale} | {stall} | {result.seconds:.0f}"
    return f"| `{result.name}` | {result.faults} | {counts} |"


def describe(result: Result, short: bool = False) -> str:
    """Return a result as text."""
    lines = [
        f"  load    {result.load}",
        f"  faults  {result.faults}",
        f"  lost {result.lost}, twice {result.twice}, longest stall {result.stall:.2f} s, took {result.seconds:.0f} s",
    ]
    if result.reads:
        lines.append(f"  reads {result.reads:,}, stale {result.stale:,}")
    lines += [f"  {name}: {value}" for name, value in result.figures.items()]
    lines += [f"  slow: {problem}" for problem in result.slow if short]
    if result.good:
        lines.append("  ok")
    else:
        lines += [f"  FAILED: {problem}" for problem in result.problems]
        repeat = f"python -m tests.chaos --only {result.name} --seed {result.seed}{' --short' if short else ''}"
        lines.append(f"  to repeat: {repeat}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
