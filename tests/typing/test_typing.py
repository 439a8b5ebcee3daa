"""The type checker accepts right code, and reports wrong code line by line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@pytest.fixture(scope="module")
def reported() -> dict[str, set[int]]:
    """The lines with errors of each snippet, as reported by basedpyright with the strict settings of the project."""
    checked = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", *sorted(str(path) for path in HERE.glob("[!t]*.py"))],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found: dict[str, set[int]] = {}
    for each in json.loads(checked.stdout)["generalDiagnostics"]:
        if each["severity"] == "error":
            found.setdefault(Path(each["file"]).name, set()).add(each["range"]["start"]["line"] + 1)
    return found


def test_right_code_has_no_errors(reported: dict[str, set[int]]) -> None:
    assert "right.py" not in reported and "contracts.py" not in reported, reported


def test_wrong_code_has_an_error_in_each_marked_line_and_no_other(reported: dict[str, set[int]]) -> None:
    lines = (HERE / "wrong.py").read_text().splitlines()
    assert reported["wrong.py"] == {number for number, line in enumerate(lines, 1) if "# wrong: " in line}


def test_the_right_code_runs() -> None:
    from tests.typing import right

    assert set(right.Orders.handlers.commands) == {"create_order", "import_orders"}
