"""Compares two runs, knowing noise: ratios to the first contender of each setting, and how they spread by round."""

from collections.abc import Iterator
from math import log
from statistics import median

import msgspec
from rich.console import Console
from rich.table import Table

from bench.results import Measure, Report

LEAST = 0.05
"""Changes below this share are never called one."""

METRICS = {"rate": True, "cpu": False, "caller": False, "actor": False, "thousands": False}
"""What is compared, and whether more of it is better."""


class Change(msgspec.Struct, frozen=True):
    """How one figure of ours moved from run A to run B; `better` is None where that is within the noise."""

    question: str
    setting: str
    contender: str
    metric: str
    before: float
    after: float
    better: bool | None


def changes(a: Report, b: Report) -> list[Change]:
    """Each figure of ours that both runs have.

    It changed where no round of the one run is among those of the other, and by more than either run's rounds lie apart
    together with how far what is not ours moved between the runs (nats.go, raw nats-py otherwise used; on one processor
    also the first contender itself): that is what the machine alone does to a figure. With fewer signs, one of a hundred
    figures of the same code would be called changed.
    """
    moved = list(_moved(a, b))
    found: list[Change] = []
    for question, setting, contender, metric, before, after in moved:
        if not _is_ours(contender):
            continue
        others = [m for m in moved if not _is_ours(m[2]) and m[3] == metric]
        nearest = [m for m in others if m[0] == question] or others
        noise = max([LEAST, *(abs(log(median(m[5]) / median(m[4]))) for m in nearest)])
        if a.machine["cpu"] == b.machine["cpu"]:
            noise = max(noise, _first_moved(a, b, question, setting, metric))
        better = _better(before, after, METRICS[metric], noise)
        found.append(Change(question, setting, contender, metric, median(before), median(after), better))
    return found


def _first_moved(a: Report, b: Report, question: str, setting: str, metric: str) -> float:
    """How far the first contender itself moved between two runs on one processor: a starved machine shows there."""
    first = next(m for m in b.measures if (m.question, m.setting) == (question, setting))
    before, after = (report.find(question, setting, first.contender) for report in (a, b))
    values = [one.middle(metric) if one is not None else None for one in (before, after)]
    return abs(log(values[1] / values[0])) if values[0] and values[1] else 0.0


def _is_ours(contender: str) -> bool:
    return "actorloom" in contender or contender.startswith(("+ ", "our"))


def _moved(a: Report, b: Report) -> Iterator[tuple[str, str, str, str, list[float], list[float]]]:
    """Question, setting, contender and metric, with the ratios to the setting's first contender in A and in B."""
    for measure in b.measures:
        first = next(m for m in b.measures if (m.question, m.setting) == (measure.question, measure.setting))
        old, old_first = (a.find(m.question, m.setting, m.contender) for m in (measure, first))
        if measure is first or old is None or old_first is None:
            continue
        for metric in METRICS:
            before, after = _ratios(old, old_first, metric), _ratios(measure, first, metric)
            if before and after and not (metric == "caller" and "cpu" in measure.rounds[0]):
                yield measure.question, measure.setting, measure.contender, metric, before, after


def show(a: Report, b: Report, console: Console) -> bool:
    """Print what changed; return whether something got worse."""
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
    console.print(f"{len(found)} figures compared, {same} the same within the noise of their rounds")
    if a.machine["cpu"] != b.machine["cpu"]:
        console.print(f"mind: {a.machine['cpu']} and {b.machine['cpu']}", style="yellow")
    return any(change.better is False for change in found)


def _ratios(measure: Measure, first: Measure, metric: str) -> list[float]:
    both = zip(measure.rounds, first.rounds, strict=False)
    return [m[metric] / f[metric] for m, f in both if metric in m and f.get(metric)]


def _better(before: list[float], after: list[float], more_is_better: bool, noise: float) -> bool | None:
    change = log(median(after) / median(before))
    apart = max(before) < min(after) or max(after) < min(before)
    spread = max(log(max(rounds) / min(rounds)) for rounds in (before, after))
    if not apart or abs(change) <= noise + spread:
        return None
    return (change > 0) == more_is_better
