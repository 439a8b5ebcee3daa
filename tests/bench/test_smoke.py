"""Tests of the command line of the bench: a short run, its report, and usage errors."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("hdrh", reason="make bench installs the bench extra")
pytest.importorskip("matplotlib", reason="make bench installs the bench extra")

from bench.results import Report, load

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m bench`` with these arguments."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )


def test_a_quick_run_of_one_question_writes_a_report(tmp_path: Path) -> None:
    output = tmp_path / "run.json"
    done = bench("--quick", "emit", "--output", str(output))
    assert done.returncode == 0, done.stderr
    found = load(output)
    assert [measure.contender for measure in found.measures] == [
        "js.publish",
        "js.publish, same headers",
        "actorloom publish",
        "actorloom emit",
    ]
    for measure in found.measures:
        assert len(measure.rounds) == 3
        assert all(sample["rate"] > 0 and 0 < sample["p50"] <= sample["p99"] for sample in measure.rounds)
    assert "goals" in done.stdout and "actorloom emit" in done.stdout
    assert msgspec.json.decode(output.read_bytes(), type=Report).failed == []
    assert bench("compare", str(output), str(output)).returncode == 0


def test_an_unknown_question_is_a_usage_error() -> None:
    done = bench("nonsense")
    assert done.returncode == 2
    assert "nonsense" in done.stderr
