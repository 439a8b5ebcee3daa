"""Compares two runs: the ratios to the first contender of each setting, beyond the noise of the rounds and the machine."""

from collections.abc import Iterator
from math import log
from statistics import median

import msgspec
from rich.console import Console
from rich.table import Table

from bench.results import Measure, Report

SMALLEST_CHANGE = 0.05
"""Logarithm of a ratio. Smaller differences never count as a change."""

METRICS = {"rate": True, "cpu": False, "caller": False, "actor": False, "thousands": False}
"""The metrics that are compared, and whether a higher value is better."""


class Change(msgspec.Struct, frozen=True):
    """The difference of one Actorloom figure between run A and run B. `better` is None if it is within the noise."""

    question: str
    setting: str
    contender: str
    metric: str
    before: float
    after: float
    better: bool | None


class RatioPair(msgspec.Struct, frozen=True):
    """One contender's ratios to the first contender of its setting, round by round: in run A and in run B."""

    question: str
    setting: str
    contender: str
    metric: str
    before: list[float]
    after: list[float]

    @property
    def is_ours(self) -> bool:
        """True if the contender is Actorloom or a part of it."""
        return "actorloom" in self.contender or self.contender.startswith(("+ ", "our"))

    @property
    def shift(self) -> float:
        """The logarithm of the ratio of the two medians."""
        return log(median(self.after) / median(self.before))


def changes(a: Report, b: Report) -> list[Change]:
    """Return every Actorloom figure that both runs have, with a verdict.

    A figure counts as changed if two conditions hold. No round of one run lies among the rounds of the other. And the
    medians differ by more than the noise plus the larger spread of the two runs' rounds. Noise is the largest shift
    between the runs of contenders that are not Actorloom (nats.go, other uses of nats-py), and on the same processor also
    the shift of the first contender itself: the machine alone moves figures that far. With weaker conditions, one figure
    in a hundred of unchanged code would count as changed.
    """
    pairs = list(_ratio_pairs(a, b))
    found: list[Change] = []
    for pair in pairs:
        if not pair.is_ours:
            continue
        others = [other for other in pairs if not other.is_ours and other.metric == pair.metric]
        others = [other for other in others if other.question == pair.question] or others
        noise = max([SMALLEST_CHANGE, *(abs(other.shift) for other in others)])
        if a.machine["cpu"] == b.machine["cpu"]:
            noise = max(noise, _shift_of_first(a, b, pair))
        found.append(
            Change(
                question=pair.question,
                setting=pair.setting,
                contender=pair.contender,
                metric=pair.metric,
                before=median(pair.before),
                after=median(pair.after),
                better=_verdict(pair, noise),
            )
        )
    return found


def show(a: Report, b: Report, console: Console) -> bool:
    """Print the figures that changed from run A to run B, and return whether one got worse."""
    found = changes(a, b)
    table = Table(
        title=f"{a.commit} → {b.commit}: × the first contender of each setting, in the same run", title_justify="left"
    )
    for column in ("question", "setting", "contender", "metric", "before", "after", "verdict"):
        table.add_column(column, justify="right" if column in ("before", "after") else "left", no_wrap=True)
    for change in found:
        if change.better is not None:
            verdict = "[green]better[/green]" if change.better else "[red]worse[/red]"
            table.add_row(
                change.question,
                change.setting,
                change.contender,
                change.metric,
                f"{change.before:.2f}",
                f"{change.after:.2f}",
                f"{verdict} {change.after / change.before - 1:+.0%}",
            )
    if table.row_count:
        console.print(table)
    same = sum(change.better is None for change in found)
    console.print(f"{len(found)} figures compared, {same} unchanged within noise")
    if a.machine["cpu"] != b.machine["cpu"]:
        console.print(f"different machines: {a.machine['cpu']} and {b.machine['cpu']}", style="yellow")
    return any(change.better is False for change in found)


def _ratio_pairs(a: Report, b: Report) -> Iterator[RatioPair]:
    for measure in b.measures:
        first = next(m for m in b.measures if (m.question, m.setting) == (measure.question, measure.setting))
        old, old_first = (a.find(m.question, m.setting, m.contender) for m in (measure, first))
        if measure is first or old is None or old_first is None:
            continue
        for metric in METRICS:
            before, after = _ratios(old, old_first, metric), _ratios(measure, first, metric)
            if before and after and not (metric == "caller" and "cpu" in measure.rounds[0]):
                yield RatioPair(measure.question, measure.setting, measure.contender, metric, before, after)


def _shift_of_first(a: Report, b: Report, pair: RatioPair) -> float:
    """Return the absolute shift of the setting's first contender, which shows a starved machine."""
    first = next(m for m in b.measures if (m.question, m.setting) == (pair.question, pair.setting))
    before, after = (report.find(pair.question, pair.setting, first.contender) for report in (a, b))
    values = [measure.median(pair.metric) if measure is not None else None for measure in (before, after)]
    return abs(log(values[1] / values[0])) if values[0] and values[1] else 0.0


def _ratios(measure: Measure, first: Measure, metric: str) -> list[float]:
    both = zip(measure.rounds, first.rounds, strict=False)
    return [m[metric] / f[metric] for m, f in both if metric in m and f.get(metric)]


def _verdict(pair: RatioPair, noise: float) -> bool | None:
    """Return whether the figure got better, or None if the difference is within the noise."""
    before, after = pair.before, pair.after
    apart = max(before) < min(after) or max(after) < min(before)
    spread = max(log(max(rounds) / min(rounds)) for rounds in (before, after))
    if not apart or abs(pair.shift) <= noise + spread:
        return None
    return (pair.shift > 0) == METRICS[pair.metric]
