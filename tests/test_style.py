"""Conventions that neither the formatter nor the linter knows: logger names, documented constants, plain imports."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("runtime", "actors", "examples", "bench", "tests")
Check = Callable[[str, str], Iterator[str]]
"""Takes the path of a module, relative to the repository, and its text. Yields a line for each offense."""


def misnamed_loggers(path: str, text: str) -> Iterator[str]:
    """Yield the loggers of a module that are not `logger`, or not named after their room (`__name__` in actors/)."""
    if "getLogger" not in text:
        return
    room = path.split("/")[1].removesuffix(".py")
    wanted = "__name__" if path.startswith("actors/") else repr(f"actorloom.{room}")
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Call):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        called, name = ast.unparse(node.value.func), ", ".join(map(ast.unparse, targets))
        given = ", ".join(map(ast.unparse, node.value.args))
        local = not given and not name.startswith("_") and name != "logger"  # the root logger, to configure it
        if called in ("logging.getLogger", "getLogger") and not local and (name, given) != ("logger", wanted):
            yield f"{path}:{node.lineno}: {name} = getLogger({given}), not logger = getLogger({wanted})"


def comments_above_constants(path: str, text: str) -> Iterator[str]:
    """Yield the constants and class attributes that a comment above them documents, in place of a string below."""
    lines = text.splitlines()
    tree = ast.parse(text)
    bodies = [tree.body, *(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    for node in (node for body in bodies for node in body if isinstance(node, ast.Assign | ast.AnnAssign)):
        above = lines[node.lineno - 2].strip() if node.lineno > 1 else ""
        if re.match(r"#(?! (fmt|type|ruff|pyright|noqa)\b)", above):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            yield f"{path}:{node.lineno}: a comment above {ast.unparse(target)}, not a string below"


def import_aliases(path: str, text: str) -> Iterator[str]:
    """Yield the imports of our own modules and names that rename them."""
    if not re.search(r"(import|,|\(|^)\s*[\w.]+ as \w", text, re.MULTILINE):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            ours = node.level or (node.module or "").split(".")[0] in OURS
            renamed = [alias for alias in node.names if ours and alias.asname not in (None, alias.name)]
        elif isinstance(node, ast.Import):
            renamed = [alias for alias in node.names if alias.asname and alias.name.split(".")[0] in OURS]
        else:
            continue
        yield from (f"{path}:{node.lineno}: {alias.name} as {alias.asname}" for alias in renamed)


def reaches_inside(path: str, text: str) -> Iterator[str]:
    """Yield the expressions of a test that go from `system` to private parts of the runtime, past the probe."""
    if not re.search(r"system\b.*\.(_|hosts?\b|serving\b)", text, re.DOTALL):
        return
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Attribute) or not re.match(r"_|hosts?$|serving$", node.attr):
            continue
        inner = node.value
        while isinstance(inner, ast.Attribute | ast.Call | ast.Subscript):
            if isinstance(inner, ast.Attribute) and inner.attr == "system":
                break
            inner = inner.func if isinstance(inner, ast.Call) else inner.value
        if getattr(inner, "id", getattr(inner, "attr", "")) == "system":
            yield f"{path}:{node.lineno}: {ast.unparse(node)}"


def offenses(check: Check, folders: tuple[str, ...]) -> list[str]:
    """Apply a check to all modules below some folders of the repository."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return [line for path in paths for line in check(str(path.relative_to(ROOT)), path.read_text())]


def test_loggers_have_one_name_and_one_scheme() -> None:
    assert offenses(misnamed_loggers, ("runtime", "actors")) == []


def test_constants_are_documented_below_them() -> None:
    assert offenses(comments_above_constants, ("runtime", "actors", "bench")) == []


def test_our_own_modules_keep_their_names() -> None:
    assert offenses(import_aliases, OURS) == []


def test_tests_reach_inside_by_the_probe_alone() -> None:
    found = offenses(reaches_inside, ("tests",))
    assert [line for line in found if not line.startswith(("tests/support/probe.py", "tests/chaos/"))] == []


@pytest.mark.parametrize(
    ("check", "path", "text", "found"),
    [
        (misnamed_loggers, "runtime/wire/ids.py", 'logger = logging.getLogger("actorloom.wire")', False),
        (misnamed_loggers, "runtime/wire/ids.py", 'logger = logging.getLogger("actorloom.ids")', True),
        (misnamed_loggers, "runtime/wire/ids.py", "logger = logging.getLogger(__name__)", True),
        (misnamed_loggers, "runtime/wire/ids.py", 'log = logging.getLogger("actorloom.wire")', True),
        (misnamed_loggers, "runtime/wire/ids.py", '_log: Any = logging.getLogger("actorloom.wire")', True),
        (misnamed_loggers, "runtime/testing/system.py", 'logger = logging.getLogger("actorloom.testing")', False),
        (misnamed_loggers, "runtime/telemetry/logs.py", "root = logging.getLogger()", False),
        (misnamed_loggers, "actors/orders/actor.py", "logger = logging.getLogger(__name__)", False),
        (misnamed_loggers, "actors/orders/actor.py", 'logger = logging.getLogger("orders")', True),
        (comments_above_constants, "runtime/a.py", 'LIMIT = 3\n"""Most attempts."""', False),
        (comments_above_constants, "runtime/a.py", "# Most attempts.\n\nLIMIT = 3", False),
        (comments_above_constants, "runtime/a.py", "# fmt: off\nLIMIT = 3", False),
        (comments_above_constants, "runtime/a.py", "# Most attempts.\nLIMIT = 3", True),
        (comments_above_constants, "runtime/a.py", "class A:\n    # Most attempts.\n    limit: int = 3", True),
        (reaches_inside, "tests/a.py", 'system.host("counter").serving.turns', True),
        (reaches_inside, "tests/a.py", "shop.system.runner.hosts[0].ready", True),
        (reaches_inside, "tests/a.py", 'system.relay("counter")._keys.clear()', True),
        (reaches_inside, "tests/a.py", 'system.relay("counter").stop()', False),
        (reaches_inside, "tests/a.py", "runner.hosts[0].ready", False),
        (import_aliases, "runtime/a.py", "from runtime.wire import headers", False),
        (import_aliases, "runtime/a.py", "from .actor import Orders as Orders", False),
        (import_aliases, "runtime/a.py", "import numpy as np", False),
        (import_aliases, "runtime/a.py", "from runtime.wire import headers as header_block", True),
        (import_aliases, "actors/a.py", "def late():\n    from .messages import Order as Ordered", True),
        (import_aliases, "bench/a.py", "import runtime.wire.headers as header_block", True),
    ],
)
def test_an_offense_is_found(check: Check, path: str, text: str, found: bool) -> None:
    assert bool(list(check(path, text))) == found
