"""Prints a report: the figures of each question, and the goals with their verdicts."""

from collections import Counter

from rich.console import Console
from rich.table import Table

from bench.goals import GOALS, verdicts
from bench.results import Measure, Report

_COLORS = {"met": "green", "met within noise": "green", "missed": "red", "missed within noise": "yellow"}
_COLUMNS = {
    "rate": "per second",
    "asked": "target rate",
    "p50": "p50 µs",
    "p90": "p90 µs",
    "p99": "p99 µs",
    "p99.9": "p99.9 µs",
    "actor": "actor CPU µs",
    "caller": "caller CPU µs",
    "cpu": "both",
    "exported": "spans exported",
    "dropped": "dropped",
    "thousands": "thousand instructions",
    "server": "server CPU µs",
    "both": "actor and server",
    "cores": "cores in use",
    "seconds": "seconds",
    "start_cpu": "CPU ms",
    "mib": "MiB",
    "moved_ms": "moved in ms",
    "longest_ms": "longest wait, moved ms",
    "others_ms": "others ms",
    "share": "% of the actor's time",
    "calls": "calls per query",
    "matches": "matching rules",
    "bytes": "bytes",
    "compile_us": "compile µs",
    "add_us": "add µs",
    "replace_us": "replace µs",
    "remove_us": "remove µs",
}


def show(report: Report, console: Console) -> None:
    """Print all figures and then the goals."""
    machine = report.machine
    console.print(
        f"\n{machine['cpu']}, {machine['cores']} cores, {machine['system']}, load {machine['load']} at the start; commit {report.commit}"
    )
    console.print(", ".join(f"{name} {version}" for name, version in report.versions.items()))
    for question in dict.fromkeys(measure.question for measure in report.measures):
        _show_question(report, question, console)
    _show_goals(report, console)
    for skipped in report.skipped:
        console.print(f"[dim]skipped: {skipped}[/dim]")


def _show_question(report: Report, question: str, console: Console) -> None:
    measures = [measure for measure in report.measures if measure.question == question]
    groups: dict[bool, list[Measure]] = {}
    for measure in measures:
        groups.setdefault("rate" in measure.rounds[0], []).append(measure)
    for group in groups.values():
        _show_measures(report, question, group, console)


def _show_measures(report: Report, question: str, measures: list[Measure], console: Console) -> None:
    """Print measures of one question in one table: those with a rate, or those without."""
    metrics = list(dict.fromkeys(metric for m in measures for sample in m.rounds for metric in sample))
    table = Table(title=question, title_justify="left", title_style="bold")
    for column in ("setting", "contender", "× first", "CPU × first"):
        table.add_column(column, justify="right" if "×" in column else "left", no_wrap=True)
    for metric in metrics:
        table.add_column(_COLUMNS.get(metric, metric), justify="right", no_wrap=True)
    for setting in dict.fromkeys(measure.setting for measure in measures):
        group = [measure for measure in measures if measure.setting == setting]
        for measure in group:
            ratios = [
                report.ratio(question, setting, measure.contender, group[0].contender, metric)
                for metric in ("rate" if "rate" in metrics else metrics[0], _cpu(metrics))
            ]
            table.add_row(
                setting if measure is group[0] else "",
                measure.contender,
                *(f"{ratio.median:.2f}" if ratio else "" for ratio in ratios),
                *(_cell(measure, metric) for metric in metrics),
            )
        table.add_section()
    console.print(table)


def _cpu(metrics: list[str]) -> str:
    return next((metric for metric in ("cpu", "caller") if metric in metrics), "actor")


def _cell(measure: Measure, metric: str) -> str:
    value = measure.median(metric)
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _show_goals(report: Report, console: Console) -> None:
    table = Table(title="goals (median of the rounds, in brackets lowest and highest)", title_justify="left")
    for column in ("work", "against", "goal", "here", "", "verdict"):
        table.add_column(column, justify="right" if column in ("goal", "here") else "left", no_wrap=True)
    counts = Counter[str]()
    for goal, found, verdict in verdicts(report):
        counts[verdict] += 1
        if found is None:
            continue
        sign, color = "≥" if goal.at_least else "≤", _COLORS[verdict]
        table.add_row(
            goal.work,
            goal.against,
            f"{sign} {goal.text(goal.target)}",
            goal.text(found.median),
            f"({goal.text(found.low)}–{goal.text(found.high)})",
            f"[{color}]{verdict}[/{color}]",
        )
    if table.row_count:
        console.print(table)
    console.print(f"{len(GOALS)} goals: {', '.join(f'{counts[verdict]} {verdict}' for verdict in counts)}")
