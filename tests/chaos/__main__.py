"""``python -m tests.chaos``: run the scenarios, print what each found, exit 1 where a promise was broken."""

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
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="repeats a run's faults (timing is the machine's own)")
    parser.add_argument("--only", action="append", choices=list(ALL), help="this scenario; may be repeated")
    parser.add_argument("--short", action="store_true", help="the version that CI runs")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the soak lasts")
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="keep data and logs there")
    arguments = parser.parse_args()
    if arguments.list:
        for name, scenario in ALL.items():
            print(f"{name:22} {(scenario.__doc__ or '').strip()}")
        return 0
    results = [
        run(name, arguments.seed, short=arguments.short, seconds=arguments.seconds, keep=arguments.keep)
        for name in arguments.only or ALL
    ]
    bad = [result for result in results if not result.good]
    print(f"\n{len(results) - len(bad)} of {len(results)} scenarios as promised, seed {arguments.seed}")
    return 1 if bad else 0


def run(name: str, seed: int, *, short: bool = False, seconds: float = 60.0, keep: Path | None = None) -> Result:
    """Run one scenario, print its result and return it."""
    directory = (keep / name) if keep else Path(tempfile.mkdtemp(prefix=f"actorloom-chaos-{name}-"))
    directory.mkdir(parents=True, exist_ok=True)
    setting = Setting(
        seed, directory, short=short, minutes=seconds / 60, say=lambda text: print(f"    {text}", flush=True)
    )
    print(f"\n{name}: {(ALL[name].__doc__ or '').strip()}", flush=True)
    begun = time.monotonic()
    try:
        result = asyncio.run(ALL[name](setting))
    except Exception as error:  # noqa: BLE001 - a scenario that cannot go on has failed, and the others are still to run
        result = Result(name, seed)
        result.problems += ["it could not go on:", *traceback.format_exception(error)]
    result.seconds = time.monotonic() - begun
    print(describe(result, short), flush=True)
    if result.good and not keep:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print(f"    logs and data: {directory}")
    return result


def describe(result: Result, short: bool = False) -> str:
    """Return the lines that are printed of a result."""
    lines = [
        f"  load    {result.load}",
        f"  faults  {result.faults}",
        f"  lost {result.lost}, twice {result.twice}, longest stall {result.stall:.2f} s, took {result.seconds:.0f} s",
    ]
    lines += [f"  {name}: {value}" for name, value in result.figures.items()]
    if result.good:
        lines.append("  ok")
    else:
        lines += [f"  NOT AS PROMISED: {problem}" for problem in result.problems]
        again = f"python -m tests.chaos --only {result.name} --seed {result.seed}{' --short' if short else ''}"
        lines.append(f"  to repeat: {again}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
