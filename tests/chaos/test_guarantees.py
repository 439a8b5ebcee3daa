"""Tests that the commands in docs/guarantees.md select tests and scenarios that exist."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from tests.chaos.scenarios import ALL

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = re.findall(r"`make (test|chaos) ARGS=([^`]+)`", (ROOT / "docs" / "guarantees.md").read_text())
ARGUMENTS = {
    make: sorted({given.strip('"') for target, given in COMMANDS if target == make}) for make in ("test", "chaos")
}
"""The distinct arguments of ``make test`` and ``make chaos``."""


def names_of_tests(paths: list[str]) -> list[str]:
    """Return the names of the test functions in these files and folders."""
    files = [
        file for path in paths for file in ([ROOT / path] if path.endswith(".py") else (ROOT / path).rglob("*.py"))
    ]
    trees = [ast.parse(file.read_text()) for file in files]
    functions = [
        node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return [function.name for function in functions if function.name.startswith("test_")]


@pytest.mark.parametrize("arguments", ARGUMENTS["test"])
def test_a_command_selects_tests(arguments: str) -> None:
    paths, _, selection = arguments.partition(" -k ")
    names = names_of_tests(shlex.split(paths))
    assert names
    for word in selection.strip("'").split(" or "):
        assert [name for name in names if word in name], f"no test is called like {word!r}"


@pytest.mark.parametrize("arguments", ARGUMENTS["chaos"])
def test_a_command_runs_scenarios(arguments: str) -> None:
    scenarios = re.findall(r"--only (\S+)", arguments)
    assert set(scenarios) <= ALL.keys()
