"""Both type checkers accept right code, and report wrong code line by line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def by_basedpyright(files: list[str]) -> list[tuple[str, int]]:
    """The file and line of each error that basedpyright reports with the strict settings of the project."""
    checked = run("basedpyright", "--outputjson", *files)
    found = json.loads(checked.stdout)["generalDiagnostics"]
    return [(each["file"], each["range"]["start"]["line"] + 1) for each in found if each["severity"] == "error"]


def by_mypy(files: list[str]) -> list[tuple[str, int]]:
    """The file and line of each error that mypy reports with the strict settings of the project."""
    checked = run("mypy", "--output=json", *files)
    assert checked.returncode in (0, 1), checked.stdout + checked.stderr
    found = [json.loads(line) for line in checked.stdout.splitlines()]
    return [(each["file"], each["line"]) for each in found if each["severity"] == "error"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module of Python in the root of the project."""
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", params=[by_basedpyright, by_mypy])
def reported(request: pytest.FixtureRequest) -> dict[str, set[int]]:
    """The lines with errors of each snippet."""
    found: dict[str, set[int]] = {}
    for file, line in request.param(sorted(str(path) for path in HERE.glob("[!t]*.py"))):
        found.setdefault(Path(file).name, set()).add(line)
    return found


def test_right_code_has_no_errors(reported: dict[str, set[int]]) -> None:
    assert "right.py" not in reported and "contracts.py" not in reported, reported


def test_wrong_code_has_an_error_in_each_marked_line_and_no_other(reported: dict[str, set[int]]) -> None:
    lines = (HERE / "wrong.py").read_text().splitlines()
    assert reported["wrong.py"] == {number for number, line in enumerate(lines, 1) if "# wrong: " in line}


def test_the_right_code_runs() -> None:
    from tests.typing import right

    assert set(right.Orders.handlers.commands) == {"create_order", "import_orders"}
