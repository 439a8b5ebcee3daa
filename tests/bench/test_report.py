"""Tests of reports: goals, the comparison of two runs, percentiles and pictures."""

import base64
from array import array
from pathlib import Path

import pytest

pytest.importorskip("hdrh", reason="make bench installs the bench extra")

from bench import check, compare, goals, results
from bench.results import Measure, Report
from bench.suite import percentiles


def report(**contenders: list[float]) -> Report:
    """Return a report of one setting with these rates per contender and round."""
    measures = [
        Measure("query", "256 in flight", name.replace("_", " "), [{"rate": rate} for rate in rates])
        for name, rates in contenders.items()
    ]
    return Report("now", "abc", True, {"cpu": "x"}, {}, measures)


RAW = [100.0, 110.0, 90.0, 100.0, 100.0]


def test_a_ratio_is_taken_within_each_round() -> None:
    # The machine was half as fast during the second round, which does not change the ratio.
    found = report(raw=[100.0, 50.0, 100.0], ours=[300.0, 150.0, 290.0]).ratio(
        "query", "256 in flight", "ours", "raw", "rate"
    )
    assert found is not None and (found.low, found.median, found.high) == (2.9, 3.0, 3.0)


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ([3.0] * 5, "met"),
        ([2.0] * 5, "missed"),
        ([2.9, 2.9, 2.9, 2.9, 2.0], "met within noise"),
        ([2.2, 2.2, 2.2, 2.2, 4.0], "missed within noise"),
    ],
)
def test_a_verdict_considers_the_spread_of_the_rounds(factors: list[float], verdict: str) -> None:
    given = report(actorloom=[a * b for a, b in zip(RAW, factors, strict=True)])
    given.measures.append(Measure("query", "256 in flight", goals.RAW, [{"rate": rate} for rate in RAW]))
    found = {goal.work: verdict for goal, _, verdict in goals.verdicts(given) if goal.against == goals.RAW}
    assert found["query, 256 in flight, untraced"] == verdict
    assert found["query, 256 in flight, 1% sampled"] == "not measured"


@pytest.mark.parametrize(
    ("after", "better"),
    [
        ([1.5, 1.5, 1.4, 1.6, 1.5], False),
        ([3.0, 3.1, 2.9, 3.0, 3.0], True),
        ([2.0, 2.1, 1.9, 2.0, 2.05], None),
        ([1.2, 2.9, 1.1, 3.0, 2.2], None),
        ([2.2, 2.25, 3.4, 2.3, 2.3], None),
    ],
    ids=["worse", "better", "the same", "noise", "apart, but within the spread of its rounds"],
)
def test_a_figure_changes_only_if_all_rounds_agree(after: list[float], better: bool | None) -> None:
    before = report(raw=RAW, ours=[a * b for a, b in zip(RAW, [2.0, 2.0, 1.9, 2.1, 2.0], strict=True)])
    (change,) = compare.changes(before, report(raw=RAW, ours=[a * b for a, b in zip(RAW, after, strict=True)]))
    assert change.better is better


def test_a_faster_machine_is_not_a_change() -> None:
    before = report(raw=RAW, ours=[200.0] * 5)
    after = report(raw=[3 * rate for rate in RAW], ours=[600.0] * 5)
    assert [change.better for change in compare.changes(before, after)] == [None]


def test_a_starved_machine_is_noise() -> None:
    before = report(raw=RAW, ours=[200.0] * 5)
    starved = report(raw=[rate / 10 for rate in RAW], ours=[90.0] * 5)
    assert [change.better for change in compare.changes(before, starved)] == [None]
    starved.machine["cpu"] = "another"  # which may be that slow
    assert [change.better for change in compare.changes(before, starved)] == [True]


def test_the_shift_of_other_libraries_between_runs_is_noise() -> None:
    before = report(raw=RAW, nats_go=[300.0] * 5, ours=[200.0] * 5)
    calm = report(raw=RAW, nats_go=[310.0] * 5, ours=[150.0] * 5)
    busy = report(raw=RAW, nats_go=[200.0] * 5, ours=[150.0] * 5)
    assert [(change.contender, change.better) for change in compare.changes(before, calm)] == [("ours", False)]
    assert [(change.contender, change.better) for change in compare.changes(before, busy)] == [("ours", None)]


def test_percentiles_are_microseconds() -> None:
    ticks = array("I", [*range(10, 10_000, 10), 50_000])  # 1 µs to 1 ms, and one of 5 ms
    found = percentiles({"latencies": base64.b64encode(ticks.tobytes()).decode()})
    assert found["p50"] == pytest.approx(500, rel=0.01)
    assert found["p99"] == pytest.approx(990, rel=0.01)


def test_report_survives_its_file(tmp_path: Path) -> None:
    given = report(raw=RAW)
    results.save(given, tmp_path / "a" / "run.json")
    assert results.load(tmp_path / "a" / "run.json") == given


def test_pictures_are_drawn_as_svg_and_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="make bench installs the bench extra")
    from bench.pictures import draw

    machine, versions = {"cpu": "x", "cores": "2"}, {"python": "3.11", "nats-server": "2"}
    sample = {"rate": 1e4, "actor": 5.0, "asked": 1e4, "p50": 200.0, "p90": 300.0, "p99": 900.0, "p99.9": 2000.0}
    settings = {"query": "1 in flight", "latency": "50% of raw", "ladder": "64 in flight", "peers": "64 in flight"}
    measures = [
        Measure(question, setting, name, [sample, {**sample, "rate": 2e4}])
        for question, setting in settings.items()
        for name in (goals.RAW, "actorloom")
    ]
    drawn = draw(Report("now", "abc", True, machine, versions, measures), tmp_path, "run")
    assert {path.name for path in drawn} == {f"run-{name}.{kind}" for name in settings for kind in ("svg", "png")}
    assert all(path.stat().st_size > 1000 for path in drawn)


def test_saved_ratios_belong_to_questions_that_the_check_runs() -> None:
    import msgspec

    for saved in msgspec.json.decode(check.BASELINES.read_bytes(), type=list[check.Baseline]):
        assert saved.question in check.QUESTIONS
        assert saved.setting in check.SETTINGS
        assert 0 < saved.ratio < 10
