"""The plugin of pytest in projects of their own: with each plugin that runs coroutines, and unused."""

import sys
from pathlib import Path

import pytest

from tests.support.plugins import install_plugin
from tests.support.process import ROOT, run_python

ACTORS = """
from msgspec import Struct
from runtime import Actor, Command, Query, command, query


class Pages(Struct, frozen=True):
    read: int = 0


class ReadPage(Command[int], actor="books", key="title"):
    title: str


class Books(Actor[Pages]):
    name = "books"

    @command
    async def read_page(self, message: ReadPage) -> int:
        self.state = Pages((self.state or Pages()).read + 1)
        return self.state.read
"""

TESTS = """
from books import Books, ReadPage

SEEN = []


{mark}
async def test_a_page_is_read(actors, nats_server):
    async with actors(Books) as system:
        assert await system.bus.command(ReadPage("faust")) == 1
        SEEN.append((nats_server.pid, system.runner.hosts[0].names.turns_stream))


{mark}
async def test_each_test_has_a_namespace_of_its_own(actors, nats_server):
    async with actors(Books, lease_ttl=2.0) as system, actors(namespace="other") as client:
        assert await system.bus.command(ReadPage("faust")) == 1
        SEEN.append((nats_server.pid, system.runner.hosts[0].names.turns_stream))
    [one, two] = SEEN
    assert one[0] == two[0] and one[1] != two[1]
"""

MODES = {
    "strict": ("pytest.mark.asyncio", ["-p", "no:anyio", "-o", "asyncio_mode=strict"]),
    "strict, with the loop of the module": (
        "pytest.mark.asyncio(loop_scope='module')",
        ["-p", "no:anyio", "-o", "asyncio_mode=strict"],
    ),
    "auto": ("", ["-p", "no:anyio", "-o", "asyncio_mode=auto"]),
    "auto, with the loop of the session": (
        "",
        ["-p", "no:anyio", "-o", "asyncio_mode=auto", "-o", "asyncio_default_test_loop_scope=session"],
    ),
    "anyio": ("pytest.mark.anyio", ["-p", "no:asyncio"]),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The directory of a project, in which the plugin is installed."""
    install_plugin(tmp_path)
    (tmp_path / "books.py").write_text(ACTORS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    return tmp_path


async def run_tests(project: Path, text: str, *arguments: str) -> str:
    """Run one module of tests in a project, and return the output of pytest. All tests must pass."""
    (project / "test_books.py").write_text(text)
    path = ":".join(map(str, (project, ROOT)))
    options = ["-q", "-p", "no:cacheprovider", *arguments]
    if "no:asyncio" not in arguments:
        options += ["-o", "asyncio_default_fixture_loop_scope=function"]
    done = await run_python("-m", "pytest", *options, cwd=project, env={"PYTHONPATH": path})
    assert done.code == 0, done.out + done.err
    return done.out


@pytest.mark.parametrize("mode", MODES)
async def test_the_fixtures_work_with_each_plugin_that_runs_coroutines(mode: str, project: Path) -> None:
    mark, arguments = MODES[mode]
    text = f"import pytest\n{TESTS}".replace("{mark}", f"@{mark}" if mark else "")
    if mode == "anyio":
        text += '\n\n@pytest.fixture\ndef anyio_backend():\n    return "asyncio"\n'
    assert "2 passed" in await run_tests(project, text, *arguments)


async def test_the_event_loop_of_the_thread_stays(project: Path) -> None:
    text = """
import asyncio, pytest

@pytest.fixture(scope="session")
def loop():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()

def test_the_loop_stays(loop, nats_server):
    assert asyncio.get_event_loop() is loop
"""
    await run_tests(project, text, "-p", "no:asyncio", "-p", "no:anyio")


async def test_each_worker_of_xdist_has_a_server(project: Path) -> None:
    text = """
import pathlib, pytest

@pytest.mark.parametrize("number", range(4))
def test_a_server(number, nats_server, worker_id):
    pathlib.Path(f"{worker_id}-{nats_server.pid}").touch()
"""
    await run_tests(project, text, "-n", "2", "--dist", "each")
    servers = [path.name.split("-") for path in project.glob("gw*")]
    assert len(servers) == len({pid for _, pid in servers}) == len({worker for worker, _ in servers}) == 2


async def test_a_plugin_that_is_not_used_imports_nothing_of_the_runtime(project: Path) -> None:
    text = """
import sys

def test_nothing_is_imported():
    found = {name for name in sys.modules if name.split(".")[0] in ("runtime", "nats", "msgspec", "opentelemetry")}
    assert found == {"runtime", "runtime.testing", "runtime.testing.plugin"}
"""
    await run_tests(project, text)


async def test_the_runtime_needs_no_pytest(project: Path) -> None:
    code = "import sys; sys.modules['pytest'] = None; from runtime.testing import *; print(running.__name__)"
    done = await run_python("-c", code, cwd=project)
    assert (done.code, done.out) == (0, "running\n"), done.err
    assert sys.modules["pytest"] is pytest
