"""The question `rules`: its contenders find the same rules before they are measured, and its figures become a table."""

import pytest

pytest.importorskip("hdrh", reason="make bench installs the bench extra")

from bench import rules
from bench.pages import TABLES
from bench.results import Measure, Report
from bench.sides.rules import CONTENDERS, Matching


async def test_contenders_that_find_different_rules_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    side = Matching()
    for mix in rules.MIXES:
        figures = await side.prepare(200, mix)
        assert 300 < figures["bytes"] < 360
        assert (await side.match("indexed", 200, mix, 0.0))["count"] > 0
    monkeypatch.setitem(CONTENDERS, "naive", lambda listed: lambda type_, payload: ["another"])
    with pytest.raises(RuntimeError, match="the contenders find different rules"):
        await side.prepare(200, "B")


async def test_the_changes_of_an_index_are_timed() -> None:
    assert [*await Matching().changes(50, "B")] == [*rules.CHANGES]


def test_the_figures_become_a_table() -> None:
    setting, machine = rules.setting(10_000, "B"), {"cpu": "x", "cores": "2", "load": "0.1"}
    measures = [
        Measure("rules", f"events, {setting}", rules.INDEXED, [{"matches": 2.0, "bytes": 315.0}]),
        *(Measure("rules", setting, name, [{"rate": rate}]) for name, rate in zip(rules.CONTENDERS, (500.0, 900.0, 25_000.0), strict=True)),
        Measure("rules", f"changes, {setting}", rules.INDEXED, [dict.fromkeys(rules.CHANGES, 12.0)]),
    ]  # fmt: skip
    report = Report("2026-11-28T00:00:00+00:00", "abc", True, machine, {}, measures)
    table = TABLES["rules"](report)
    assert "| 10,000, mix B | 2.00 | 500 | 900 | 25,000 | 50.0× |" in table
    assert "12 to compile its pattern" in table
    assert TABLES["rules"](Report("", "", True, machine, {}, [])) == ""
