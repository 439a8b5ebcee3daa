"""Imports go down only: each part of runtime/ stands on a floor, and imports from its own floor or a lower one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "runtime"

# The floors of the architecture; a new module is entered here with its first commit.
FLOORS: dict[int, set[str]] = {
    8: {"__init__"},  # re-exports the public names: nothing inside imports it
    7: {"__main__", "cli"},
    6: {"doctor", "runner", "in_process", "demo", "testing", "config", "health"},
    5: {"host", "serving", "subscriptions"},
    4: {
        "dispatch",
        "endpoint",
        "event_work",
        "queries",
        "commands",
        "commit",
        "holding",
        "keys",
        "turn",
        "work",
        "reaction",
        "redrive",
        "suspects",
        "timers",
    },
    3: {
        "state",
        "storage",
        "deadletter",
        "mailbox",
        "key",
        "checkpoint",
        "places",
        "journal",
        "marks",
        "index",
        "relay",
        "schedules",
        "bus",
        "route",
    },
    2: {"nats"},
    1: {
        "tracing",
        "codec",
        "answer",
        "rules",
        "handler",
        "actor",
        "call",
        "ids",
        "record",
        "cloudevents",
        "breaker",
        "describe",
    },
    0: {"message", "subject", "headers", "errors", "options", "ordered"},
}
FLOOR_OF = {part: floor for floor, parts in FLOORS.items() for part in parts}


def part_of(module: str) -> str:
    """`runtime.nats.connection` belongs to the part `nats`, `runtime` itself is the part `__init__`."""
    return [*module.split("."), "__init__"][1]


def imported_modules(path: Path, root: Path) -> Iterator[tuple[int, str, str]]:
    """Line, module and name of each import in the file at `path`; relative ones are resolved, `root` being a package."""
    package = [root.name, *path.relative_to(root).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, module, alias.name) for alias in node.names)


def imported_parts(path: Path) -> Iterator[tuple[int, str]]:
    for line, module, name in imported_modules(path, ROOT):
        if (
            module == ROOT.name and name in FLOOR_OF
        ):  # `from runtime import headers` names a module, not the package's face
            yield line, name
        elif module.split(".")[0] == ROOT.name:
            yield line, part_of(module)


def offences(path: Path) -> Iterator[str]:
    where = path.relative_to(ROOT)
    part = where.parts[0].removesuffix(".py")
    if part not in FLOOR_OF:
        yield f"runtime/{where}: `{part}` is not in the table of floors"
        return
    for line, imported in imported_parts(path):
        if imported not in FLOOR_OF:
            yield f"runtime/{where}:{line}: `{imported}` is not in the table of floors"
        elif FLOOR_OF[imported] > FLOOR_OF[part]:
            yield f"runtime/{where}:{line}: {part} (floor {FLOOR_OF[part]}) imports {imported} (floor {FLOOR_OF[imported]})"


def test_imports_go_down_only() -> None:
    assert [offence for path in sorted(ROOT.rglob("*.py")) for offence in offences(path)] == []


def test_the_table_has_no_part_twice() -> None:
    assert sum(map(len, FLOORS.values())) == len(FLOOR_OF)


def test_a_service_knows_other_services_by_their_messages_only() -> None:
    services = ROOT.parent / "actors"
    wrong = [
        f"actors/{path.relative_to(services)}:{line}: imports {module}"
        for path in sorted(services.rglob("*.py"))
        for line, module, name in imported_modules(path, services)
        if "actor" in (*module.split(".")[2:3], name) and module.split(".")[1:2] != [path.parent.name]
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "line", ["import runtime.host.host", "from .host import Host", "from runtime import host", "from . import host"]
)
def test_every_way_to_import_is_seen(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = tmp_path / "runtime"
    root.mkdir()
    monkeypatch.setitem(globals(), "ROOT", root)
    (root / "codec.py").write_text(f"def late():\n    {line}\n")
    assert list(offences(root / "codec.py")) == ["runtime/codec.py:2: codec (floor 1) imports host (floor 5)"]
