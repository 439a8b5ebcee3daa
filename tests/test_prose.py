"""Docstrings and pages are plain English, by the figures of `tests.support.prose`."""

from pathlib import Path

import pytest

from tests.support.prose import PATTERNS, figures, words, worst

ROOT = Path(__file__).parents[1]
CODE = [ROOT / folder for folder in ("runtime", "actors", "examples", "bench", "tests")]
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "docs", *sorted((ROOT / ".github").rglob("*.md"))]


@pytest.mark.parametrize(("paths", "limit"), [(CODE, 1.5), (PAGES, 2.0)], ids=["docstrings", "pages"])
def test_the_english_is_plain(paths: list[Path], limit: float) -> None:
    counted = words(paths)
    assert len(counted) > 10_000
    above = {name: round(figure, 1) for name, figure in figures(counted).items() if figure > limit}
    assert above == {}, "\n".join(f"{place}: {sentence}" for _, place, sentence in worst(paths, 20))


def test_docstrings_and_pages_are_measured_without_their_code(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(
        '"""What waits here."""\nLIMIT = 3\n"""Whichever ``nobody`` heeds."""\ntold = "said"  # where\n'
    )
    (tmp_path / "page.md").write_text("Who says `what`?\n\n```\nwhere\n```\n")
    counted = words([tmp_path])
    assert counted == ["what", "waits", "here", "whichever", "heeds", "who", "says"]
    assert figures(counted) == pytest.approx(dict.fromkeys(PATTERNS, 1000 / 7) | {"where": 0})
    assert [(count, sentence) for count, _, sentence in worst([tmp_path], 1)] == [(2, "Who says ?")]
