"""The page of patterns is true: each section is a module with tests, which run here."""

import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from runtime import react
from runtime.nats.server import EmbeddedServer
from runtime.testing import System, running
from tests.support.process import ROOT, run_command
from tests.typing.test_typing import by_basedpyright

PAGE = ROOT / "docs" / "patterns.md"


class Section(NamedTuple):
    """A section of the page, and its blocks of Python, each moved down to the lines that it has on the page."""

    heading: str
    blocks: list[str]


def sections() -> Iterator[Section]:
    """Yield the sections. That before the first heading has the imports of all."""
    text = PAGE.read_text()
    for part in re.finditer(r"(?ms)^(#+) ([^\n]*)\n(.*?)(?=^## |\Z)", text):
        blocks = []
        for block in re.finditer(r"(?ms)^```python\n(.*?)^```", text[: part.end()][part.start() :]):
            above = text.count("\n", 0, part.start() + block.start(1))
            blocks.append("\n" * above + block[1])
        yield Section(part[2], blocks)


IMPORTS, *PATTERNS = sections()
TESTED = [section for section in PATTERNS if section.blocks]


@contextmanager
def loaded(section: Section) -> Iterator[Any]:
    """The module of a section, as long as the block runs."""
    name = re.sub(r"\W", "_", f"patterns {section.heading.lower()}")
    module = sys.modules[name] = ModuleType(name)
    try:
        for block in (*IMPORTS.blocks, *section.blocks):
            exec(compile(block, PAGE, "exec"), module.__dict__)
        yield module
    finally:
        del sys.modules[name]


@pytest.fixture(params=TESTED, ids=[section.heading for section in TESTED])
def module(request: pytest.FixtureRequest) -> Iterator[Any]:
    with loaded(request.param) as found:
        yield found


async def test_the_test_of_a_pattern_passes(
    module: Any, nats_server: EmbeddedServer, actors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    [test] = [value for name, value in vars(module).items() if name.startswith("test_")]
    fixtures = {"nats_server": nats_server, "actors": actors, "monkeypatch": monkeypatch}
    await test(**{name: fixtures[name] for name in inspect.signature(test).parameters})


def test_the_code_of_the_patterns_has_right_types(tmp_path: Path) -> None:
    """The actors are checked, with the strict settings of the project, and the tests are not: their arguments have no types."""
    imports = (
        "# pyright: reportUnusedImport=false, reportWildcardImportFromLibrary=false\n" + IMPORTS.blocks[0].lstrip()
    )
    files = {str(tmp_path / f"{number}.py"): section for number, section in enumerate(TESTED)}
    for path, section in files.items():
        Path(path).write_text(f"{imports}\n{section.blocks[0].lstrip()}")
    found = [
        (files[file].heading, Path(file).read_text().splitlines()[line - 1]) for file, line in by_basedpyright([*files])
    ]
    assert found == []


async def test_a_replay_mends_the_read_model(nats_server: EmbeddedServer, namespace: str, tmp_path: Path) -> None:
    [replay] = re.findall(r"(?m)^actorloom (.*)$", PAGE.read_text())
    [section] = [section for section in TESTED if section.heading == "Read model"]
    where = {"url": nats_server.url, "namespace": namespace, "sources": ["shop"]}
    with loaded(section) as model:

        class Faulty(model.Sales):
            name = "sales"

            @react(key="day")
            async def on_order_paid(self, event: model.OrderPaid) -> None:
                self.state = model.Day({event.order_id: 1})

        async def until_sold(system: System, amount: int) -> None:
            async def sold() -> bool:
                return await system.bus.query(model.GetSales("monday")) == amount

            await system.until(sold)

        async with running(Faulty, **where) as system:
            for order_id in ("1", "2"):
                await system.bus.emit(model.OrderPaid(order_id, day="monday", amount=10))
            await until_sold(system, 1)
        async with running(model.Sales, **where) as system:
            arguments = (*shlex.split(replay), "--nats", nats_server.url, "--namespace", namespace)
            done = await run_command(*arguments, cwd=tmp_path)
            assert done.code == 0, done
            await until_sold(system, 20)


def test_the_page_has_its_patterns() -> None:
    assert len(IMPORTS.blocks) == 1
    assert len(TESTED) == 15
    linked = re.findall(r"\(#([\w-]+)\)", PAGE.read_text())
    assert sorted(linked) == sorted(section.heading.lower().replace(" ", "-") for section in PATTERNS)
