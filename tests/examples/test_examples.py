"""Every example runs as documented in its docstring and prints the documented output."""

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from runtime.cli.targets import find_actors
from runtime.nats.server import EmbeddedServer
from tests.support.plugins import install_plugin
from tests.support.ports import free_ports
from tests.support.process import run_command, running_command

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
SERVICES = sorted(path.parent.name for path in (ROOT / "examples").glob("*/__init__.py"))
TIMEOUT = 100


def documented_output(name: str) -> str:
    """Return the output in the docstring of an example: the indented block after the last ``::``."""
    text = (ROOT / "examples" / f"{name}.py").read_text().split('"""')[1]
    return dedent(text.rpartition("::\n")[2]).strip()


async def output(name: str, **variables: str) -> str:
    """Run an example in a process of its own and return its output. It must exit with 0 and print nothing to stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        ROOT / "examples" / f"{name}.py",
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (error.decode(), process.returncode) == ("", 0)
    return out.decode().strip()


@asynccontextmanager
async def served(*targets: str, url: str) -> AsyncIterator[None]:
    """Serve the actors of modules by the command line, in a process of its own, until the end of the block."""
    async with running_command("run", *targets, "--nats", url, cwd=ROOT) as process:
        yield
        assert await process.stop() == 0, process.text


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "plain_client"])
async def test_an_example_prints_its_documented_output(name: str) -> None:
    printed = ""
    for _ in range(4 if name == "timers" else 1):  # It looks at the clock, and a machine may stand still.
        if (printed := await output(name)) == documented_output(name):
            break
    assert printed == documented_output(name)


@pytest.mark.parametrize("name", [name for name in (*EXAMPLES, *SERVICES) if name != "plain_client"])
def test_the_actors_of_an_example_can_be_run_by_the_command_line(name: str) -> None:
    assert find_actors([f"examples.{name}"])


async def test_the_plain_client_calls_an_actor_of_another_process(tmp_path: Path) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path) as server, served("examples.counter", url=server.url):
        assert await output("plain_client", NATS_URL=server.url) == documented_output("plain_client")


@pytest.mark.parametrize("name", SERVICES)
async def test_the_documented_commands_of_a_service_succeed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_URL", f"http://127.0.0.1:{free_ports(1)[0]}")  # no service listens there: the mail waits
    text = (ROOT / "examples" / name / "__init__.py").read_text()
    [run] = [line.partition("actorloom run ")[2] for line in text.splitlines() if "actorloom run " in line]
    targets = shlex.split(run, comments=True)
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("    actorloom ")]
    lines = [
        words for words in lines if words[1] not in ("run", "replay")
    ]  # test_mailer.py has a replay, of stored events
    assert lines
    async with EmbeddedServer(port=0, store_dir=tmp_path) as server, served(*targets, url=server.url):
        for line in lines:
            ran = await run_command(*line[1:], cwd=ROOT, env={"NATS_URL": server.url}, timeout=TIMEOUT)
            assert ran.code == 0, (line, ran)


async def test_the_example_of_tests_passes_under_pytest(tmp_path: Path) -> None:
    install_plugin(tmp_path)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "examples/testing_an_actor.py"),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(TIMEOUT):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    assert b"7 passed" in out


def test_the_plain_client_does_not_import_the_runtime() -> None:
    source = (ROOT / "examples" / "plain_client.py").read_text()
    assert "import runtime" not in source
    assert "from runtime" not in source


def test_every_example_is_in_the_list_of_the_documentation() -> None:
    listed = (ROOT / "docs" / "index.md").read_text()
    files = [*(f"examples/{name}.py" for name in EXAMPLES), *(f"examples/{name}/" for name in SERVICES)]
    assert [file for file in files if f"[{file}]" not in listed] == []


def test_every_service_of_the_examples_has_tests() -> None:
    assert [name for name in SERVICES if not (Path(__file__).parent / f"test_{name}.py").exists()] == []
