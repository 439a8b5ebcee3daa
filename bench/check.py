"""Compares the hot path with the ratios saved in ratios.json. Meant for changes to that path, not for CI.

The saved figure is CPU time per message relative to raw nats-py in the same run, which varies least on a busy machine.
The limit is loose enough for noise and tight enough to catch a doubling.
"""

from pathlib import Path

import msgspec
from rich.console import Console

from bench.results import Report

BASELINES = Path(__file__).parent / "ratios.json"
"""The file of saved ratios."""

QUESTIONS = ("query", "actor", "turn", "emit", "reaction")
SETTINGS = frozenset({"256 in flight", "64 in flight", "32 keys", "stored events"})
"""The settings of these questions that a check measures."""

SLACK = 1.5
"""Factor by which a ratio may exceed its saved value."""


class Baseline(msgspec.Struct):
    """A saved ratio: CPU time per message of `ours`, divided by that of `against`."""

    question: str
    setting: str
    ours: str
    against: str
    metric: str
    ratio: float


WATCHED = [
    ("query", "256 in flight", "actorloom", "raw nats-py", "cpu"),
    ("query", "256 in flight", "actorloom 1% sampled", "raw nats-py", "cpu"),
    ("query", "256 in flight", "actorloom 100% traced", "raw nats-py", "cpu"),
    ("actor", "64 in flight", "actorloom", "raw nats-py", "actor"),
    ("actor", "64 in flight", "actorloom 100% traced", "raw nats-py", "actor"),
    ("turn", "32 keys", "actorloom", "raw nats-py by hand", "actor"),
    ("turn", "32 keys", "actorloom 100% traced", "raw nats-py by hand", "actor"),
    ("emit", "64 in flight", "actorloom emit", "js.publish, same headers", "caller"),
    ("reaction", "stored events", "actorloom", "raw nats-py fetch(64)", "caller"),
]
"""Question, setting, contender, the contender it is divided by, and metric of each saved ratio."""


def save_baselines(report: Report) -> None:
    """Save the watched ratios of this run to `BASELINES`. Ratios that it did not measure are left out."""
    found = [(watched, report.ratio(*watched)) for watched in WATCHED]
    baselines = [Baseline(*watched, ratio=round(ratio.median, 3)) for watched, ratio in found if ratio is not None]
    BASELINES.write_bytes(msgspec.json.format(msgspec.json.encode(baselines), indent=1) + b"\n")


def within_limits(report: Report, console: Console) -> bool:
    """Print each saved ratio next to that of this run, and return whether all are within `SLACK`.

    A ratio that this run did not measure is printed as a warning and does not fail the check.
    """
    all_within = True
    for saved in msgspec.json.decode(BASELINES.read_bytes(), type=list[Baseline]):
        ratio = report.ratio(saved.question, saved.setting, saved.ours, saved.against, saved.metric)
        name = f"{saved.question}, {saved.setting}: CPU of {saved.ours} / {saved.against}"
        if ratio is None:
            console.print(f"{name}: not measured", style="yellow")
            continue
        limit = saved.ratio * SLACK
        within = ratio.median <= limit
        all_within = all_within and within
        verdict = "ok" if within else f"exceeds the limit of {limit:.2f}"
        console.print(
            f"{name}: {ratio.median:.2f}, saved {saved.ratio:.2f}: {verdict}", style=None if within else "red"
        )
    return all_within
