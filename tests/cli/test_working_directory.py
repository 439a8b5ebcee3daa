"""The working directory: its modules take precedence, and a name that it cannot have is refused with its file."""

import asyncio
from pathlib import Path

import pytest

from runtime.nats.server import running_url
from tests.support.process import run_command, run_python, running_command

ACTOR = """
from runtime import Actor, Query, query

class Greet(Query[str], actor="hello"):
    name: str

class Hello(Actor):
    name = "hello"

    @query
    async def greet(self, message: Greet) -> str:
        return f"Hello {message.name}"
"""


@pytest.mark.parametrize("package", [True, False])
async def test_an_own_directory_named_actors_is_the_one_that_runs(tmp_path: Path, package: bool) -> None:
    (tmp_path / "actors").mkdir()
    (tmp_path / "actors" / "hello.py").write_text(ACTOR)
    if package:
        (tmp_path / "actors" / "__init__.py").touch()
    async with running_command("run", "actors", "--log-format", "text", cwd=tmp_path) as process:
        assert "ready: hello on" in await process.until("ready:")


async def test_the_demo_runs_beside_own_modules(tmp_path: Path) -> None:
    for name in ("actors", "orders", "demo", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("1 / 0")
    done = await run_command("demo", "--exit", "--port", "0", cwd=tmp_path)
    assert done.code == 0, done


async def test_an_own_runtime_module_does_not_replace_the_library(tmp_path: Path) -> None:
    (tmp_path / "runtime.py").write_text("1 / 0")
    (tmp_path / "hello.py").write_text(ACTOR)
    async with running_command("run", "hello", "--log-format", "text", cwd=tmp_path) as process:
        assert "ready: hello on" in await process.until("ready:")


async def test_the_child_of_reload_does_not_import_an_own_runtime_module(tmp_path: Path) -> None:
    (tmp_path / "runtime.py").write_text("1 / 0")
    (tmp_path / "hello.py").write_text(ACTOR)
    async with running_command("run", "hello", "--reload", "--log-format", "text", cwd=tmp_path) as process:
        assert "ready: hello on" in await process.until("ready:")
        assert await process.stop() == 0


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("runtime", "Actorloom has imported runtime of "),
        ("json", "Python has a module json; rename the file"),
        ("calendar", "Python has a module calendar; rename the file"),
    ],
)
async def test_a_target_whose_name_is_taken_is_refused_with_its_file(tmp_path: Path, target: str, reason: str) -> None:
    (tmp_path / f"{target}.py").write_text(ACTOR)
    done = await run_command("run", target, cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"Error: {tmp_path / target}.py cannot be a target: {reason}")
    assert "targets.py" not in done.err


@pytest.mark.parametrize("file", ["msgspec.py", "nats/__init__.py", "rich.py"])
async def test_a_file_that_hides_a_package_of_the_library_is_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("")
    done = await run_command("ls", cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"Error: {tmp_path / file} hides a package that Actorloom needs: rename it\n"


async def test_a_directory_of_data_with_the_name_of_a_package_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    done = await run_command("--help", cwd=tmp_path)
    assert done.code == 0, done


PROGRAM = """
import asyncio, logging
from hello import Greet
from runtime import connect

async def main():
    async with connect() as bus:
        print(await bus.query(Greet("Ada")))

logging.basicConfig(level="INFO")
asyncio.run(main())
"""


async def test_clients_find_the_server_of_their_directory(tmp_path: Path) -> None:
    one, two, elsewhere = (tmp_path / name for name in ("one", "two", "elsewhere"))
    for directory in (one, two, elsewhere):
        directory.mkdir()
        (directory / "hello.py").write_text(ACTOR.replace("Hello {", f"{directory.name}: Hello {{"))
        (directory / "program.py").write_text(PROGRAM)
    async with (
        running_command("run", "hello", "--log-format", "text", cwd=one) as first,
        running_command("run", "hello", "--log-format", "text", cwd=two) as second,
    ):
        urls = [
            (await process.until("embedded nats-server on")).split(" on ")[1].split(",")[0]
            for process in (first, second)
        ]
        await second.until(f"port 4222 is taken: clients outside this directory need --nats {urls[1]}")
        for directory, url in ((one, urls[0]), (two, urls[1])):
            asked = await run_command("query", "hello.greet", "name=Ada", cwd=directory)
            assert (asked.code, asked.out) == (0, f'"{directory.name}: Hello Ada"\n')
            default = url == "nats://127.0.0.1:4222"
            assert asked.err == ("" if default else f"using the nats-server of .actorloom at {url}\n")
            program = await run_python("program.py", cwd=directory)
            assert program.out == f"{directory.name}: Hello Ada\n"
            assert default or f"the server is that of {directory / '.actorloom'}, at {url}" in program.err
        asked = await run_command("query", "hello.greet", "name=Ada", "--nats", urls[0], cwd=two)
        assert (asked.out, asked.err) == ('"one: Hello Ada"\n', "")
        asked = await run_command("query", "hello.greet", "name=Ada", cwd=two, env={"NATS_URL": urls[0]})
        assert (asked.out, asked.err) == ('"one: Hello Ada"\n', "")
        program = await run_python("program.py", cwd=two, env={"NATS_URL": urls[0]})
        assert program.out == "one: Hello Ada\n"
        assert running_url(elsewhere / ".actorloom") is None
    async with asyncio.timeout(20):
        while running_url(two / ".actorloom") is not None:  # the server ends a moment after its killed parent
            await asyncio.sleep(0.01)
