"""No code of the runtime decides by the text or the type name of an error: errors have types, codes and fields."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "runtime"

READERS = {
    "nats/errors.py": "An -ERR of the NATS protocol is a line of text without a code.",
}
"""The modules that may read a text, each with the reason."""

REPEATS = {
    ("nats/jetstream/recovery.py", "str(error) != self._reported"),
    ("nats/session.py", "str(self._last_error) != text"),
}
"""Comparisons of two texts that only keep a message from being logged twice."""

TEXT_METHODS = {"startswith", "endswith", "find", "index", "count", "partition", "rpartition", "removeprefix"}


def is_text(node: ast.AST) -> bool:
    """Return whether `node` is the text of an object, as in ``str(error)``, or the name of a type."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("str", "repr") and len(node.args) == 1 and is_error(node.args[0])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("lower", "casefold", "strip") and is_text(node.func.value)
    return isinstance(node, ast.Attribute) and node.attr == "__name__" and isinstance(node.value, ast.Call)


def is_error(node: ast.AST) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return "error" in name or name in ("exc", "exception", "raised", "refusal", "reason", "failure")


def is_decision(node: ast.AST) -> bool:
    """Return whether `node` compares a text, or searches in one."""
    if isinstance(node, ast.Compare):
        return any(map(is_text, (node.left, *node.comparators)))
    method = node.func if isinstance(node, ast.Call) else None
    return isinstance(method, ast.Attribute) and method.attr in TEXT_METHODS and is_text(method.value)


def decisions(tree: ast.AST) -> list[str]:
    """Return the source of each decision in `tree`."""
    return [ast.unparse(node) for node in ast.walk(tree) if is_decision(node)]


def test_no_module_decides_by_the_text_of_an_error() -> None:
    found = {
        (str(path.relative_to(ROOT)), decision)
        for path in ROOT.rglob("*.py")
        for decision in decisions(ast.parse(path.read_text()))
        if str(path.relative_to(ROOT)) not in READERS
    }
    assert found == REPEATS


@pytest.mark.parametrize(
    "line",
    [
        'str(error).endswith("(10189)")',
        '"no message found" in str(error)',
        '"violation" in str(self._last_error).lower()',
        'type(error).__name__ == "Retry"',
        'repr(exc) == "TimeoutError()"',
    ],
)
def test_each_form_of_such_a_decision_is_found(line: str) -> None:
    assert decisions(ast.parse(line)) == [ast.unparse(ast.parse(line))]
