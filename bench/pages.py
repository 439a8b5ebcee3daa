"""Writes the figures of a report into the pages of `docs/`, between the markers ``<!-- figures: name -->`` and
``<!-- end of figures -->``."""

import datetime
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from bench import cluster, hand_on, moves, rules, scale
from bench.goals import OURS, TRACED, verdicts
from bench.limits import limits
from bench.process import ROOT
from bench.results import Report

_MARKED = re.compile(r"(?s)(<!-- figures: ([a-z ]+) -->\n)(.*?)(<!-- end of figures -->)")


def write(report: Report, folder: Path = ROOT / "docs") -> list[str]:
    """Write all tables for which the report has figures. Return their names; other tables stay as they are."""
    written: list[str] = []

    def replaced(found: re.Match[str]) -> str:
        begin, name, _, end = found.groups()
        table = TABLES[name](report)
        if not table:
            return found[0]
        written.append(name)
        return f"{begin}\n{table}\n\n{_origin(report)}\n\n{end}"

    for page in sorted(folder.glob("*.md")):
        text = page.read_text()
        new = _MARKED.sub(replaced, text)
        if new != text:
            page.write_text(new)
    return written


def _origin(report: Report) -> str:
    when = datetime.datetime.fromisoformat(report.when)
    versions, machine = report.versions, report.machine
    return (
        f"Measured on {when:%B} {when.day}, {when.year} at commit `{report.commit}`: {machine['cores']} cores ({machine['cpu']}), load "
        f"{machine['load']} at the start, Python {versions['python']}, nats-server {versions['nats-server']}."
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of Markdown; empty without rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    heads = list(head)
    return "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *lines]) if lines else ""


def _cell(report: Report, setting: str, contender: str, metric: str, question: str = "scale") -> str:
    """Return a figure as text: the median, with the lowest and highest round if they differ."""
    found = report.figure(question, setting, contender, metric)
    if found is None:
        return "–"
    digits = 0 if found.median >= 10 or found.median == 0 else 2
    texts = [f"{value:,.{digits}f}" for value in (found.median, found.low, found.high)]
    return texts[0] if texts[0] == texts[1] == texts[2] else f"{texts[0]} ({texts[1]}–{texts[2]})"


def _has(report: Report, setting: str) -> bool:
    return any((each.question, each.setting) == ("scale", setting) for each in report.measures)


def _rates(report: Report) -> str:
    rows = [
        (f"{what}, {handlers}", f"{what}, {handlers}", "rate")
        for handlers in (scale.CHEAP, scale.LONG)
        for what in ("turns", "queries")
    ]
    rows += [("lists of 20 out of 5,000", "lists of 20", "rate")]
    cheap = f"turns, {scale.CHEAP}"
    rows += [
        ("CPU of a turn in the actors, µs", cheap, "actor"),
        ("CPU of a turn in nats-server, µs", cheap, "server"),
        ("CPU of a turn in the caller, µs", cheap, "caller"),
    ]
    return _table(
        ("A second, or as stated", *scale.SHARES),
        [
            (text, *(_cell(report, setting, contender, metric) for contender in scale.SHARES))
            for text, setting, metric in rows
            if _has(report, setting)
        ],
    )


def _moves(report: Report) -> str:
    head = "Change", "Partitions have moved, ms", "Longest wait for a moved one, ms", "Longest wait for another one, ms"
    metrics = "moved_ms", "longest_ms", "others_ms"
    settings = [setting for setting in moves.SETTINGS if _has(report, setting)]
    rows = [(each, *(_cell(report, each, moves.MOVED, metric) for metric in metrics)) for each in settings]
    if not rows:
        return ""
    count, failed, lost, twice = (
        _cell(report, "moves", moves.OUTCOMES, metric) for metric in ("commands", "failed", "lost", "twice")
    )
    outcome = (
        f"Of {count} commands, {failed} failed as processes joined and left, {lost} had no effect and {twice} had more "
        "than one, those at kills included."
    )
    return f"{_table(head, rows)}\n\n{outcome}"


def _hand_on(report: Report) -> str:
    head = "Turns caused by events", "a second", "CPU in the actors, µs", "CPU in nats-server, µs"
    rows = [
        (each, *(_cell(report, "reactions", each, metric) for metric in ("rate", "actor", "server")))
        for each in hand_on.SHARES
        if _has(report, "reactions")
    ]
    return _table(head, rows)


def _starts(report: Report) -> str:
    head = "Partitions", "First start, s", "Start, s", "CPU of a start, ms", "Memory, MiB"
    names = [each.contender for each in report.measures if (each.question, each.setting) == ("scale", "start")]
    cells = [("first start", "seconds"), ("start", "seconds"), ("start", "start_cpu"), ("start", "mib")]
    return _table(
        head,
        [(each.split()[0], *(_cell(report, setting, each, metric) for setting, metric in cells)) for each in names],
    )


def _goals(report: Report) -> str:
    """Return all goals that were measured, the missed ones first, each with its reason."""
    rows = [
        (
            goal.work + (f", against {goal.against}" if goal.against else ""),
            f"{'≥' if goal.at_least else '≤'} {goal.text(goal.target)}",
            f"{goal.text(found.median)} ({goal.text(found.low)}–{goal.text(found.high)})",
            verdict,
            goal.why if verdict.startswith("missed") else "",
        )
        for goal, found, verdict in verdicts(report)
        if found is not None
    ]
    rows.sort(key=lambda row: not row[3].startswith("missed"))
    return _table(("Goal", "Target", "Measured", "Verdict", "Reason of a miss"), rows)


def _ladder(report: Report) -> str:
    names = [each.contender for each in report.measures if each.question == "ladder"]
    setting = next((each.setting for each in report.measures if each.question == "ladder"), "")
    rows = [(name, _cell(report, setting, name, "actor", "ladder")) for name in names]
    return _table(("Step (`ladder`)", "µs of CPU time"), rows)


def _instructions(report: Report) -> str:
    rows = []
    for setting in ("queries", "turns", "reactions", "starts"):
        found = [each for each in report.measures if (each.question, each.setting) == ("instructions", setting)]
        rows += [
            (f"{setting}: {each.contender}", _cell(report, setting, each.contender, "thousands", "instructions"))
            for each in found
        ]
    return _table(("Work (`instructions`)", "Thousands"), rows)


def _parts(report: Report) -> str:
    """Return the parts of a traced query, and the rest of the difference to an untraced one."""
    setting = "parts of a traced query"
    found = [each for each in report.measures if (each.question, each.setting) == ("instructions", setting)]
    counts = {each.contender: each.median("thousands") or 0.0 for each in found}
    rows = [(name, f"{count:.1f}") for name, count in counts.items()]
    whole = [report.figure("instructions", "queries", name, "thousands") for name in (TRACED, OURS)]
    if rows and whole[0] is not None and whole[1] is not None:
        rows.append(("a traced query, less an untraced one", f"{whole[0].median - whole[1].median:.1f}"))
    return _table(("Part (`instructions`)", "Thousands"), rows)


def _rules(report: Report) -> str:
    """Return the events a second through each number of rules, and the cost of a change."""
    rows: list[tuple[str, ...]] = []
    for mix in rules.MIXES:
        for count in rules.COUNTS:
            setting = rules.setting(count, mix)
            ratio = report.ratio("rules", setting, rules.INDEXED, rules.NAIVE, "rate")
            matches = _cell(report, f"events, {setting}", rules.INDEXED, "matches", "rules")
            if ratio is not None:
                rates = (_cell(report, setting, name, "rate", "rules") for name in rules.CONTENDERS)
                rows.append((f"{count:,}, mix {mix}", matches, *rates, f"{ratio.median:.1f}×"))
    changes = f"changes, {rules.setting(rules.COUNTS[-1], 'B')}"
    costs = [_cell(report, changes, rules.INDEXED, metric, "rules") for metric in rules.CHANGES]
    times = [
        _cell(report, rules.IN_FORCE, rules.INDEXED, metric, "rules")
        for metric in ("put_p50", "force_p50", "force_p99")
    ]
    head = "Rules", "Matching rules", *rules.CONTENDERS, "index to loop over all"
    if not rows:
        return ""
    return (
        f"{_table(head, rows)}\n\nAt 10,000 rules of mix B, in µs of CPU time for each rule: {costs[0]} to compile its pattern, "
        f"{costs[1]} to add it, {costs[2]} to replace it (both with the compilation), and {costs[3]} to remove it.\n\n"
        f"A rule is put in {times[0]} ms (median), and is in force in another process {times[1]} ms after that, {times[2]} ms at the 99th percentile."
    )


def _limits(report: Report) -> str:
    """Return the arithmetic of `bench.limits` for the costs of a turn in this report."""
    costs = (
        report.figure("scale", f"turns, {scale.CHEAP}", scale.ONE_OF_8, "actor"),
        report.figure("scale", cluster.SETTING, cluster.CONTENDER, "server"),
        report.figure("emit", "64 in flight", "actorloom emit", "server"),
    )
    known = [cost.median for cost in costs if cost is not None]
    return limits(*known) if len(known) == len(costs) else ""


TABLES: dict[str, Callable[[Report], str]] = {
    "rates": _rates,
    "moves": _moves,
    "handing on": _hand_on,
    "starts": _starts,
    "goals": _goals,
    "ladder": _ladder,
    "instructions": _instructions,
    "parts of a traced query": _parts,
    "limits": _limits,
    "rules": _rules,
}
"""The tables by the name in their marker."""
