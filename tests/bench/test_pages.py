"""The figures in the pages: what a report has is written between the markers, and the rest stays."""

from pathlib import Path

import pytest

pytest.importorskip("hdrh", reason="make bench installs the bench extra")

from bench import goals, moves
from bench.pages import TABLES, write
from bench.process import ROOT
from bench.results import Measure, Report

PAGE = """Moves:

<!-- figures: moves -->
old
<!-- end of figures -->

<!-- figures: rates -->
old rates
<!-- end of figures -->

<!-- figures: goals -->
<!-- end of figures -->
"""


def report(longest: float, failed: float) -> Report:
    rounds = [{"moved_ms": 100.0, "longest_ms": longest, "others_ms": 20.0}]
    outcomes = [{"commands": 1000.0, "failed": failed, "lost": 0.0, "twice": 0.0}]
    measures = [
        Measure("scale", moves.JOIN, moves.MOVED, rounds),
        Measure("scale", "moves", moves.OUTCOMES, outcomes),
    ]
    machine, versions = {"cpu": "x", "cores": "2", "load": "0.1"}, {"python": "3", "nats-server": "2"}
    return Report("2026-11-28T00:00:00+00:00", "abc", True, machine, versions, measures)


def test_a_table_is_replaced_if_the_report_has_its_figures(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert write(report(90.0, 0.0), tmp_path) == ["moves", "goals"]
    text = page.read_text()
    assert "| a process joins | 100 | 90 | 20 |" in text
    assert "Of 1,000 commands, 0 failed" in text
    assert "old rates" in text and "\nold\n" not in text
    assert "Measured on November 28, 2026 at commit `abc`" in text
    write(report(90.0, 0.0), tmp_path)
    assert page.read_text() == text, "the same figures give the same page"


def test_a_goal_may_be_a_figure() -> None:
    found = {goal.work: (verdict, goal) for goal, _, verdict in goals.verdicts(report(600.0, 0.0))}
    verdict, goal = found["a process joins: longest wait of a caller"]
    assert (verdict, goal.text(600.0)) == ("missed", "600 ms")
    assert found["commands that fail if processes join and leave"][0] == "met"
    failing = {goal.work: verdict for goal, _, verdict in goals.verdicts(report(90.0, 1.0))}
    assert failing["commands that fail if processes join and leave"] == "missed"


def test_each_marker_in_the_pages_names_a_table() -> None:
    texts = [page.read_text() for page in (ROOT / "docs").glob("*.md")]
    named = [
        line[len("<!-- figures: ") : -len(" -->")]
        for text in texts
        for line in text.splitlines()
        if line.startswith("<!-- figures: ")
    ]
    assert sorted(named) == sorted(TABLES), "each table is in one page"
