"""The version before partitions, as it was counted then: what an actor that is one whole may cost at most.

The report ``reference-before.json`` has the counts of that version. They depend on the build of Python, so they are shown
here scaled by the count of the raw nats-py callback in both runs.
"""

from bench.results import RESULTS, Measure, Report, load

BEFORE = RESULTS / "reference-before.json"
"""The counts of the version before partitions."""

NAME = "actorloom before partitions"
"""The name of the contender."""

SETTINGS = ("queries", "turns", "starts")
"""The settings of `instructions` that are compared."""
_RAW = "queries", "raw nats-py"
"""The setting and contender by which two builds of Python are compared."""


def add(report: Report) -> None:
    """Add the counts of the version before, beside those of the report. Nothing is added if one of them is not there."""
    if not BEFORE.exists():
        return
    before = load(BEFORE)
    then, now = _count(before, *_RAW), _count(report, *_RAW)
    for setting in SETTINGS:
        count = _count(before, setting, "actorloom")
        if then and now and count and _count(report, setting, "actorloom"):
            figures = {"thousands": count * now / then}
            report.measures.append(Measure("instructions", setting, NAME, [figures]))


def _count(report: Report, setting: str, contender: str) -> float | None:
    measure = report.find("instructions", setting, contender)
    return measure.median("thousands") if measure else None
