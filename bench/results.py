"""The report of a run, stored as JSON: samples by round, with the machine, versions and commit."""

import datetime
import os
import platform
import statistics
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from bench.process import ROOT
from runtime.nats.server import find_nats_server

RESULTS = ROOT / "bench" / "results"
"""The directory of reports and pictures. Only those named ``reference*`` are in the repository."""

_PACKAGES = ("nats-py", "msgspec", "uvloop", "opentelemetry-sdk")

Sample = dict[str, float]
"""One round of one contender, by metric.

``rate`` is in messages per second. ``p50``, ``p99`` and other percentiles are in microseconds. ``actor`` and ``caller`` are
microseconds of CPU time per message in that process, and ``cpu`` is their sum. Questions add metrics of their own.
"""


class Measure(msgspec.Struct):
    """All rounds of one contender at one setting of one question."""

    question: str
    setting: str
    contender: str
    rounds: list[Sample]

    def median(self, metric: str) -> float | None:
        """Return the median over the rounds, or None if the metric was not measured."""
        values = [sample[metric] for sample in self.rounds if metric in sample]
        return statistics.median(values) if values else None


class Spread(msgspec.Struct, frozen=True):
    """A figure over the rounds: median, lowest and highest."""

    median: float
    low: float
    high: float


class Report(msgspec.Struct):
    """One run of the suite. `skipped` and `failed` hold a line for each contender or question without figures."""

    when: str
    commit: str
    quick: bool
    machine: dict[str, str]
    versions: dict[str, str]
    measures: list[Measure] = []
    skipped: list[str] = []
    failed: list[str] = []
    seconds: float = 0.0

    def find(self, question: str, setting: str, contender: str) -> Measure | None:
        """Return the measure of a contender, or None if it did not run."""
        for measure in self.measures:
            if (measure.question, measure.setting, measure.contender) == (question, setting, contender):
                return measure
        return None

    def figure(self, question: str, setting: str, contender: str, metric: str) -> Spread | None:
        """Return a figure of one contender, or None if it was not measured."""
        measure = self.find(question, setting, contender)
        return _spread([sample[metric] for sample in measure.rounds if metric in sample]) if measure else None

    def ratio(self, question: str, setting: str, ours: str, against: str, metric: str) -> Spread | None:
        """Return the ratio of `ours` to `against`, or None if one of them was not measured.

        The ratio is taken within each round, because the contenders of a round ran side by side.
        """
        pair = self.find(question, setting, ours), self.find(question, setting, against)
        if pair[0] is None or pair[1] is None:
            return None
        both = zip(pair[0].rounds, pair[1].rounds, strict=False)
        return _spread([a[metric] / b[metric] for a, b in both if metric in a and b.get(metric)])


def new_report(quick: bool) -> Report:
    """Return a report of this machine and commit, without measures."""
    return Report(
        when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        quick=quick,
        machine={
            "cpu": _cpu(),
            "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
            "load": f"{os.getloadavg()[0]:.1f}",
            "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        },
        versions=_versions(),
    )


def save(report: Report, path: Path) -> None:
    """Write a report as indented JSON, with figures rounded to five digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(_rounded(report)), indent=1) + b"\n")


def load(path: Path) -> Report:
    """Read a report."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


def _spread(values: list[float]) -> Spread | None:
    return Spread(statistics.median(values), min(values), max(values)) if values else None


def _rounded(report: Report) -> Report:
    measures = [
        msgspec.structs.replace(
            measure,
            rounds=[{name: float(f"{value:.5g}") for name, value in sample.items()} for sample in measure.rounds],
        )
        for measure in report.measures
    ]
    return msgspec.structs.replace(report, measures=measures)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    shown = _output([str(find_nats_server()), "--version"])
    return {**found, "nats-server": shown.rpartition(" v")[2]}


def _commit() -> str:
    name = _output(["git", "rev-parse", "--short=12", "HEAD"])
    changed = _output(["git", "status", "--porcelain", "--untracked-files=no", "runtime"])
    return (name or "unknown") + (" and changes" if changed else "")


def _output(argv: list[str]) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=10, check=False).stdout.strip()
    except OSError:
        return ""


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
