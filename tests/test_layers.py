"""The rooms of runtime/ and their floors: imports go to lower floors only, and in no circle."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "runtime"

# From the top to the ground. A room imports rooms of lower floors only, imports for types included.
FLOORS: list[set[str]] = [
    {"__main__", "__init__"},
    {"cli", "testing"},
    {"router"},
    {"host"},
    {"intake", "contracts"},
    {"turns", "admin"},
    {"storage", "client"},
    {"nats", "telemetry", "actor"},
    {"wire"},
    {"options"},
    {"bounds"},
    {"errors", "faults", "backoff", "forks"},
    {"clocks"},
]
FLOOR_OF = {room: -depth for depth, rooms in enumerate(FLOORS) for room in rooms}


def modules(root: Path) -> dict[str, Path]:
    """Return the path of each module below `root`, which is a package, by the module's dotted name."""
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(path: Path, root: Path) -> list[tuple[int, str, str]]:
    """Return line, module and name of each import in the file at `path`; relative ones are resolved."""
    package = [root.name, *path.relative_to(root).parent.parts]
    found: list[tuple[int, str, str]] = []
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found += ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += ((node.lineno, module, alias.name) for alias in node.names)
    return found


def imported(path: Path, root: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of each module of `known` that the file at `path` imports."""
    for line, module, name in imports(path, root):
        if f"{module}.{name}" in known:
            yield line, f"{module}.{name}"  # `from runtime.wire import header_block` imports the module
        elif module in known:
            yield line, module


def room_of(module: str) -> str:
    """`runtime.nats.connection` is in the room `nats`, `runtime.errors` is one of its own, `runtime` is `__init__`."""
    return [*module.split("."), "__init__"][1]


def upward(root: Path) -> list[str]:
    """Return the imports that go to a room on the same floor or a higher one."""
    known = modules(root)
    wrong: list[str] = []
    for module, path in known.items():
        here = room_of(module)
        if here not in FLOOR_OF:
            wrong.append(f"{module}: the room {here} is not in the table of floors")
            continue
        for line, other in imported(path, root, known):
            there = room_of(other)
            if there != here and FLOOR_OF.get(there, 1) >= FLOOR_OF[here]:
                wrong.append(f"{module}:{line} imports {other}: {here} is not above {there}")
    return wrong


def open_modules(root: Path, room: str) -> set[str]:
    """Return the modules of `room` that its docstring, or that of a package in it, opens to other rooms."""
    found: set[str] = set()
    for path in (root / room).rglob("__init__.py"):
        package = ".".join([root.name, *path.parent.relative_to(root).parts])
        paragraphs = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")
        text = "".join(each for each in paragraphs if "modules are internal" not in each)
        found |= {package, *(f"{package}.{name}" for name in re.findall(r"`([a-z_.]+)`", text))}
    return found


def internal(root: Path) -> list[str]:
    """Return the imports of a room's internal modules from another room."""
    known = modules(root)
    opened = {room: open_modules(root, room) for room in FLOOR_OF if (root / room).is_dir()}
    return [
        f"{module}:{line} imports {other}, which the docstring of {root.name}.{room_of(other)} does not open"
        for module, path in known.items()
        for line, other in imported(path, root, known)
        if room_of(other) in opened and room_of(other) != room_of(module) and other not in opened[room_of(other)]
    ]


def circle(root: Path) -> list[str]:
    """Return modules that import each other in a circle, or an empty list."""
    known = modules(root)
    graph = {module: {other for _, other in imported(path, root, known)} for module, path in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_imports_go_to_lower_floors_only() -> None:
    assert upward(ROOT) == []


def test_rooms_use_the_open_modules_of_other_rooms_only() -> None:
    assert internal(ROOT) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(ROOT) == []


def test_the_table_of_floors_is_small_and_true() -> None:
    rooms = {room_of(module) for module in modules(ROOT)} | {"__init__"}
    assert set(FLOOR_OF) == rooms
    assert sum(map(len, FLOORS)) == len(FLOOR_OF) <= 23


@pytest.mark.parametrize(
    "line",
    [
        "import runtime.host.host",
        "from runtime.host.host import Host",
        "from runtime.host import host",
        "from ..host.host import Host",
        "from ..host import host",
        "if TYPE_CHECKING:\n        from runtime.host.host import Host",
    ],
)
def test_every_way_to_import_is_seen(line: str, tmp_path: Path) -> None:
    root = tmp_path / "runtime"
    for room in ("host", "wire"):
        (root / room).mkdir(parents=True)
        (root / room / "__init__.py").touch()
    (root / "__init__.py").touch()
    (root / "host" / "host.py").write_text("import runtime.wire.codec\n")
    (root / "wire" / "codec.py").write_text(f"def late():\n    {line}\n")
    wrong = upward(root)
    assert len(wrong) == 1
    assert "imports runtime.host.host: wire is not above host" in wrong[0]
    assert set(circle(root)) == {"runtime.host.host", "runtime.wire.codec"}
    assert len(internal(root)) == 2, "neither docstring opens anything"
    (root / "wire" / "__init__.py").write_text('"""Bytes.\n\nUsed from outside: `codec`."""\n')
    assert len(internal(root)) == 1


def test_the_library_does_not_import_its_example() -> None:
    shop = ("actors", "actorloom_shop")
    known = modules(ROOT)
    assert [
        name for name, path in known.items() for _, module, _ in imports(path, ROOT) if module.startswith(shop)
    ] == []


def test_a_service_knows_other_services_by_their_messages_only() -> None:
    services = ROOT.parent / "actors"  # the demo beside them runs them all
    wrong = [
        f"actors/{path.relative_to(services)}:{line}: imports {module}"
        for path in sorted(services.glob("*/*.py"))
        for line, module, name in imports(path, services)
        if "actor" in (*module.split(".")[2:3], name) and module.split(".")[1:2] != [path.parent.name]
    ]
    assert wrong == []
