"""Goals, comparison and percentiles say what the rounds say, and no more."""

import base64
from array import array
from pathlib import Path

import pytest

pytest.importorskip("hdrh", reason="the bench has an extra of its own: make bench installs it")

from bench import check, compare, goals, results
from bench.results import Measure, Report
from bench.suite import percentiles


def report(**contenders: list[float]) -> Report:
    """A report of one setting; each contender has these rates."""
    measures = [
        Measure("query", "256 in flight", name.replace("_", " "), [{"rate": rate} for rate in rates])
        for name, rates in contenders.items()
    ]
    return Report("now", "abc", True, {"cpu": "x"}, {}, measures)


RAW = [100.0, 110.0, 90.0, 100.0, 100.0]


def test_ratio_is_paired_by_round() -> None:
    # The second round ran on a machine half as fast: the ratio does not see it.
    found = report(raw=[100.0, 50.0, 100.0], ours=[300.0, 150.0, 290.0]).ratio(
        "query", "256 in flight", "ours", "raw", "rate"
    )
    assert found is not None and (found.low, found.middle, found.high) == (2.9, 3.0, 3.0)


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ([3.0] * 5, "met"),
        ([2.0] * 5, "missed"),
        ([2.9, 2.9, 2.9, 2.9, 2.0], "met within noise"),
        ([2.7, 2.7, 2.7, 2.7, 4.0], "missed within noise"),
    ],
)
def test_verdict_knows_the_spread(factors: list[float], verdict: str) -> None:
    given = report(actorloom=[a * b for a, b in zip(RAW, factors, strict=True)])
    given.measures.append(Measure("query", "256 in flight", goals.RAW, [{"rate": rate} for rate in RAW]))
    said = {goal.work: judged for goal, _, judged in goals.judged(given) if goal.against == goals.RAW}
    assert said["query, 256 in flight, untraced"] == verdict
    assert said["query, 256 in flight, 1% sampled"] == "not measured"


@pytest.mark.parametrize(
    ("after", "better"),
    [
        ([1.5, 1.5, 1.4, 1.6, 1.5], False),
        ([3.0, 3.1, 2.9, 3.0, 3.0], True),
        ([2.0, 2.1, 1.9, 2.0, 2.05], None),
        ([1.2, 2.9, 1.1, 3.0, 2.2], None),
        ([2.2, 2.25, 3.4, 2.3, 2.3], None),
    ],
    ids=["worse", "better", "the same", "noise", "apart, but no further than its own rounds"],
)
def test_compare_calls_a_change_only_what_the_rounds_agree_on(after: list[float], better: bool | None) -> None:
    before = report(raw=RAW, ours=[a * b for a, b in zip(RAW, [2.0, 2.0, 1.9, 2.1, 2.0], strict=True)])
    (change,) = compare.changes(before, report(raw=RAW, ours=[a * b for a, b in zip(RAW, after, strict=True)]))
    assert change.better is better


def test_compare_does_not_see_a_faster_machine() -> None:
    before = report(raw=RAW, ours=[200.0] * 5)
    after = report(raw=[3 * rate for rate in RAW], ours=[600.0] * 5)
    assert [change.better for change in compare.changes(before, after)] == [None]


def test_compare_takes_a_starved_machine_as_noise() -> None:
    before = report(raw=RAW, ours=[200.0] * 5)
    starved = report(raw=[rate / 10 for rate in RAW], ours=[90.0] * 5)
    assert [change.better for change in compare.changes(before, starved)] == [None]
    starved.machine["cpu"] = "another"  # it may be as slow as that
    assert [change.better for change in compare.changes(before, starved)] == [True]


def test_compare_takes_what_is_not_ours_as_the_noise_between_runs() -> None:
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
    pytest.importorskip("matplotlib", reason="the bench has an extra of its own: make bench installs it")
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


def test_kept_ratios_are_of_questions_that_the_check_runs() -> None:
    import msgspec

    for kept in msgspec.json.decode(check.KEPT.read_bytes(), type=list[check.Kept]):
        assert kept.question in check.QUESTIONS
        assert kept.setting in check.SETTINGS
        assert 0 < kept.ratio < 10
