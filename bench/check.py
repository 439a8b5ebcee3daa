"""Holds the hot path to the ratios kept in ratios.json: for whoever changes it, not for CI.

CPU per message, relative to raw nats-py in the same run, is what is kept: a busy machine changes it least. The bound is
loose enough for noise and tight enough for a doubling.
"""

from pathlib import Path

import msgspec
from rich.console import Console

from bench.results import Report

KEPT = Path(__file__).parent / "ratios.json"
QUESTIONS = ("query", "actor", "turn", "emit", "reaction")
SETTINGS = frozenset({"256 in flight", "64 in flight", "32 keys", "stored events"})
SLACK = 1.5


class Kept(msgspec.Struct):
    """One ratio: CPU of `ours` per message over that of `against`."""

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


def keep(report: Report) -> None:
    """Write the ratios of this run as those to hold."""
    found = [(watched, report.ratio(*watched)) for watched in WATCHED]
    kept = [Kept(*watched, ratio=round(ratio.middle, 3)) for watched, ratio in found if ratio is not None]
    KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")


def check(report: Report, console: Console) -> bool:
    """Print each kept ratio with today's; return whether all hold."""
    holds = True
    for kept in msgspec.json.decode(KEPT.read_bytes(), type=list[Kept]):
        ratio = report.ratio(kept.question, kept.setting, kept.ours, kept.against, kept.metric)
        name = f"{kept.question}, {kept.setting}: CPU of {kept.ours} / {kept.against}"
        if ratio is None:
            console.print(f"{name}: not measured", style="yellow")
            continue
        good = ratio.middle <= kept.ratio * SLACK
        holds = holds and good
        verdict = "ok" if good else f"above {kept.ratio * SLACK:.2f}"
        console.print(f"{name}: {ratio.middle:.2f}, kept {kept.ratio:.2f}: {verdict}", style=None if good else "red")
    return holds
