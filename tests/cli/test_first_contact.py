"""The first contact with the command line: mistakes of a newcomer get an answer that helps."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import pytest

import runtime
from runtime import Accepted, Actor, Command, Options, RetryPolicy, command
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.testing import running
from tests.support.counting import Add, Count, Counter
from tests.support.process import ROOT, environment, run_command, run_python, running_command

ACTOR = """
from runtime import Actor, Command, Event, Query, command, query, react

class Greet(Query[str], actor="hello"):
    name: str

class Wave(Command[None], actor="hello"):
    name: str

class Shout(Command[None], actor="hello"):
    name: str

class Waved(Event, actor="hello"):
    pass

class Hello(Actor):
    name = "hello"

    @query
    async def greet(self, message: Greet) -> str:
        return f"Hello {message.name}"

    @command
    async def wave(self, message: Wave) -> None: ...

    @command
    async def shout(self, message: Shout) -> None: ...

    @react
    async def on_waved(self, event: Waved) -> None: ...
"""


class Fail(Command[Accepted], actor="failures", key="name"):
    name: str


class Failures(Actor[Count]):
    name = "failures"
    options = Options(retry=RetryPolicy(attempts=2, first=0.01, longest=0.01))

    @command(accept=True)
    async def fail(self, message: Fail) -> None:
        raise RuntimeError("on purpose")


@pytest.fixture
async def counter(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[None]:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Add("a", 2))
        yield


@pytest.mark.usefixtures("counter")
async def test_an_operation_in_another_namespace_is_named_with_it(
    nats_server: EmbeddedServer, namespace: str, tmp_path: Path
) -> None:
    flags = ("--nats", nats_server.url)
    for other in ("", "elsewhere"):
        asked = await run_command("query", "counter.get_count", "name=a", "--namespace", other, *flags, cwd=tmp_path)
        assert asked.code == 4
        assert asked.err == (
            f"Error: no service has the query counter.get_count in namespace {other!r}: it runs in another one, "
            f"use --namespace {namespace}\n"
        )
    good = await run_command("query", "counter.get_count", "name=a", "--namespace", namespace, *flags, cwd=tmp_path)
    assert (good.code, json.loads(good.out)["value"]) == (0, 2)


@pytest.mark.usefixtures("counter")
async def test_health_looks_in_its_namespace(nats_server: EmbeddedServer, namespace: str, tmp_path: Path) -> None:
    flags = ("--nats", nats_server.url, "--timeout", "1")
    good = await run_command("health", "counter", *flags, "--namespace", namespace, cwd=tmp_path)
    assert (good.code, json.loads(good.out)) == (0, {"counter": 1})
    bad = await run_command("health", "counter", *flags, "--namespace", "elsewhere", cwd=tmp_path)
    assert (bad.code, bad.err) == (4, "Error: no answer from counter in namespace 'elsewhere'\n")


async def test_a_standby_that_is_about_to_take_over_is_waited_for(
    nats_server: EmbeddedServer, namespace: str, tmp_path: Path
) -> None:
    flags = ("--nats", nats_server.url, "--namespace", namespace)
    run = ("run", "tests.support.counting:Counter", "--lease-ttl", "3", "--log-format", "text", *flags)
    async with (
        running_command(*run, cwd=tmp_path) as owner,
        running_command(*run, cwd=tmp_path, ready="on standby") as standby,
    ):
        added = await run_command("command", "counter.add", "name=a", "by=2", *flags, cwd=tmp_path)
        assert added.code == 0, added
        await owner.end()
        asked = await run_command("query", "counter.get_count", "name=a", "--timeout", "25", *flags, cwd=tmp_path)
        assert (asked.code, asked.out[-2:]) == (0, "}\n"), asked
        assert asked.err == "counter has no owner at the moment; a standby process is about to take over\n"
        assert await standby.stop() == 0


async def test_a_pipe_whose_reader_has_ended_is_silent(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "runtime", "config", "show", "--json", cwd=tmp_path, env=environment(),
        stdout=writer, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    os.close(writer)
    _, err = await child.communicate()
    assert (child.returncode, err) == (1, b"")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ACTORLOOM_NAMESPCE", "ACTORLOOM_NAMESPACE"),
        ("ACTORLOOM_LEASETTL", "ACTORLOOM_LEASE_TTL"),
        ("ACTORLOOM_NATS_SEVER", "ACTORLOOM_NATS_SERVER"),
        ("ACTORLOOM_CONFG", "ACTORLOOM_CONFIG"),
    ],
)
async def test_a_misspelt_variable_is_refused(tmp_path: Path, name: str, hint: str) -> None:
    done = await run_command("config", "show", cwd=tmp_path, env={name: "1"})
    assert (done.code, done.err) == (2, f"Error: unknown variable {name}: did you mean {hint}?\n")


async def test_variables_of_an_application_are_permitted(tmp_path: Path) -> None:
    assert (await run_command("config", "show", cwd=tmp_path, env={"ACTORLOOM_PAYMENT_3P_DELAY": "1"})).code == 0


@pytest.mark.parametrize(
    ("given", "hint"),
    [("qurey", " Did you mean 'query'?"), ("launch", ""), ("doktor", " Did you mean 'doctor'?")],
)
async def test_an_unknown_command_suggests_one(tmp_path: Path, given: str, hint: str) -> None:
    done = await run_command(given, cwd=tmp_path)
    assert done.code == 2 and done.err.endswith(f"Error: No such command {given!r}.{hint}\n")


@pytest.mark.parametrize(
    "target",
    ["hello.py", "./hello.py", "./hello.py:Hello", "hello:Hello", "{here}/hello.py", "./inner", "inner/hello.py"],
)
async def test_a_file_is_a_target(nats_server: EmbeddedServer, namespace: str, tmp_path: Path, target: str) -> None:
    (tmp_path / "inner").mkdir()
    for directory in (tmp_path, tmp_path / "inner"):
        (directory / "hello.py").write_text(ACTOR)
    flags = ("--nats", nats_server.url, "--namespace", namespace, "--log-format", "text")
    async with running_command("run", target.format(here=tmp_path), *flags, cwd=tmp_path) as process:
        assert "ready: hello on" in process.text
        assert "hello: serves 1 query and 2 commands, reacts to 1 event\n" in process.text


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("absent.py", "no file 'absent.py'"),
        ("../outside.py", "../outside.py is not a module below the working directory"),
    ],
)
async def test_a_file_that_is_no_target_is_refused(tmp_path: Path, target: str, reason: str) -> None:
    (tmp_path / "outside.py").write_text(ACTOR)
    (tmp_path / "work").mkdir()
    done = await run_command("run", target, cwd=tmp_path / "work")
    assert (done.code, done.out) == (2, "") and reason in done.err


async def test_a_taken_health_port_and_a_second_run_say_so(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(ACTOR)
    flags = ("--log-format", "text")
    async with running_command("run", "hello", "--health-port", "0", *flags, cwd=tmp_path) as process:
        port = (await process.until("health on")).split(":")[-1].split(" ")[0]
        url = (await process.until("embedded nats-server on")).split(" on ")[1].split(",")[0]
        taken = await run_command("run", "hello", "--nats", url, "--health-port", port, *flags, cwd=tmp_path)
        assert taken.code == 2
        assert (
            f"Error: health port {port} of 127.0.0.1: the port is taken; choose another one, or 0 for any" in taken.err
        )
        second = await run_command("run", "hello", *flags, cwd=tmp_path)
        assert second.code == 2
        assert (
            f"Error: another nats-server already uses {tmp_path / '.actorloom'}, at {url}: join it with --nats {url}, "
            "or choose another directory with --data\n"
        ) in second.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls", "--nats", "nats://"),
        ("ls", "--nats", "http://127.0.0.1"),
        ("ls", "--nats", "nats://127.0.0.1:99999"),
        ("query", "hello.greet", "name=a", "--jaeger", "localhost"),
        ("doctor", "--monitor", "8222"),
    ],
)
async def test_a_url_that_is_none_says_so(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = await run_command(*arguments, cwd=tmp_path)
    assert (done.code, done.out) == (2, "") and "URL" in done.err and "Traceback" not in done.err


@pytest.mark.parametrize("module", ["click", "msgspec", "nats.aio.client", "runtime.nats.connection"])
async def test_ctrl_c_during_the_import_is_quiet(tmp_path: Path, module: str) -> None:
    (tmp_path / "hello.py").write_text(ACTOR)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-X", "importtime", "-m", "runtime", "run", "hello", cwd=tmp_path, env=environment(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=2**20,
    )  # fmt: skip
    assert child.stderr is not None
    while (line := await child.stderr.readline()).rpartition(b"|")[2].strip() != module.encode():
        assert line, f"{module} is not imported"
    child.send_signal(signal.SIGINT)
    rest = (await child.communicate())[1].decode()
    assert child.returncode == 130
    shown = [line for line in rest.splitlines() if not line.startswith("import time:")]
    assert shown == []


async def test_the_log_of_an_attempt_names_the_key_and_the_id_of_the_caller(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Failures, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Fail("apples"), id="my-id")
        await system.until(lambda: "dead letter" in caplog.text)
    assert "failures: attempt 1 of 2 at fail my-id of key 'apples' failed, next in " in caplog.text
    assert "failures: fail my-id of key 'apples' is a dead letter after 2 attempts" in caplog.text


async def test_the_help_of_make_has_no_escapes_in_a_pipe() -> None:
    child = await asyncio.create_subprocess_exec("make", "help", cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    shown, _ = await child.communicate()
    assert b"  test " in shown and b"\033" not in shown


async def test_the_plain_client_without_a_server_ends_with_one_line(tmp_path: Path) -> None:
    done = await run_python(
        str(ROOT / "examples" / "plain_client.py"), cwd=tmp_path, env={"NATS_URL": "nats://127.0.0.1:1"}
    )
    assert done.code == 1
    assert done.err == "no NATS server at nats://127.0.0.1:1; first run: actorloom run examples.counter\n"


@pytest.mark.usefixtures("counter")
async def test_streams_and_buckets_have_descriptions(nats_server: EmbeddedServer, namespace: str) -> None:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream = JetStream(connection)
        described = {
            stream: (await jetstream.stream_info(stream)).config.get("description", "")
            for stream in (
                f"{namespace}-counter-turns", f"{namespace}-counter-events", f"{namespace}-counter-dead",
                f"KV_{namespace}-leases", f"KV_{namespace}-schemas",
            )
        }  # fmt: skip
    assert all(text.startswith("Actorloom: ") for text in described.values()), described


def test_the_version_is_that_of_the_distribution() -> None:
    assert runtime.__version__ == version("actorloom")
