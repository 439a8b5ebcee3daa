"""`run` as a real process: its targets, its output, and its exit."""

import asyncio
import json
import signal
from pathlib import Path
from urllib.request import urlopen

import pytest

from runtime.cli.targets import find_actors
from runtime.errors import ConfigurationError, DeclarationError
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import EmbeddedServer
from tests.support.process import run_command, running_command

HELLO = """
import asyncio
from runtime import Actor, Query, query

class Greet(Query[str], actor="hello"):
    name: str

class Hello(Actor):
    name = "hello"

    @query
    async def greet(self, message: Greet) -> str:
        if message.name == "slow":
            await asyncio.sleep(0.5)
        if message.name == "stuck":
            await asyncio.Event().wait()
        return f"Hello {message.name}"
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the package `greeting`, which can also be imported in this process."""
    (tmp_path / "greeting" / "inner").mkdir(parents=True)
    (tmp_path / "greeting" / "__init__.py").write_text("")
    (tmp_path / "greeting" / "inner" / "__init__.py").write_text("")
    (tmp_path / "greeting" / "inner" / "hello.py").write_text(HELLO)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def names(*targets: str) -> list[str]:
    return [actor.name for actor in find_actors(targets)]


def test_a_package_names_all_its_services() -> None:
    assert names("actorloom_shop") == ["delivery", "orders", "payment", "payment-3p", "products", "warehouse"]
    assert (
        names("actorloom_shop.orders")
        == names("actorloom_shop.orders.actor")
        == names("actorloom_shop.orders.actor:Orders")
        == ["orders"]
    )
    assert names("actorloom_shop.payment", "actorloom_shop.orders", "actorloom_shop.orders") == ["payment", "orders"]


def test_actors_are_found_anywhere_in_a_package(package: Path) -> None:
    assert names("greeting") == names("greeting.inner.hello:Hello") == ["hello"]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("nowhere", "no module 'nowhere'"),
        ("", "'' is no target: write my_package"),
        (":Orders", "':Orders' is no target: write my_package"),
        (".", "'.' is no target: write my_package"),
        ("actorloom_shop.nowhere", "no module 'actorloom_shop.nowhere'"),
        ("actorloom_shop.orders.messages", "actorloom_shop.orders.messages has no actors"),
        ("actorloom_shop.orders.actor:Order", "actorloom_shop.orders.actor:Order is not an actor"),
        ("actorloom_shop.orders.actor:Nobody", "actorloom_shop.orders.actor has no 'Nobody'"),
    ],
)
def test_an_invalid_target_is_refused(target: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        find_actors([target])


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("def x(:", r"cannot import broken\w*: invalid syntax \(.*broken\w*.py, line 1\)"),
        ("\n1 / 0", r"cannot import broken\w*: ZeroDivisionError: .*broken\w*.py, line 2\)"),
        ("import nowhere", r"cannot import broken\w*: ModuleNotFoundError: No module named 'nowhere'"),
        ("import os\nos.makedirs('/proc/no/such')", r"FileNotFoundError: .* \(.*broken\w*.py, line 2\)"),
        ("import json\n\njson.loads('{')", r"JSONDecodeError: .* \(.*broken\w*.py, line 3\)"),
        ("import msgspec\nmsgspec.json.Decoder(5)", r"TypeError: .* \(.*broken\w*.py, line 2\)"),
        ("from runtime import Event\n\nclass A(Event, actor='A B'): ...", r"\(.*broken\w*.py, line 3\)"),
        (
            "from runtime import Event\nclass A(Event, actor='A B'): ...",
            r"cannot import broken\w*: A: actor='A B' is no",
        ),
    ],
)
def test_an_import_error_has_its_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, text: str
) -> None:
    name = f"broken{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeclarationError, match=text):
        find_actors([name])


def test_an_actor_without_a_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nameless.py").write_text(
        HELLO.replace('    name = "hello"', "") + "\nclass Other(Actor):\n    name = 'other'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeclarationError, match="nameless:Hello has no name"):
        find_actors(["nameless"])


async def test_an_invalid_start_is_one_message_and_exit_code_2(package: Path) -> None:
    (package / "broken.py").write_text("1 / 0")
    (package / "bad.toml").write_text("namespce = 'a'")
    for arguments in (("broken",), ("nowhere",), ("greeting", "--config", "bad.toml"), ("greeting", "--uvlop")):
        done = await run_command("run", *arguments, cwd=package)
        assert (done.code, done.out) == (2, "")
        assert "Error: " in done.err and "Traceback" not in done.err
    shown = await run_command("--debug", "run", "broken", cwd=package)
    assert "ZeroDivisionError" in shown.err and "Traceback" in shown.err


async def test_a_missing_server_is_reported_at_once(package: Path) -> None:
    (package / "actorloom.toml").write_text("[nats]\nconnect_timeout = 0.3\n")
    done = await run_command("run", "greeting", "--nats", "nats://127.0.0.1:1", cwd=package)
    assert done.code == 4
    assert done.err.splitlines()[-1].startswith("Error: cannot connect to NATS at nats://127.0.0.1:1")
    assert "Traceback" not in done.err


async def test_without_a_url_an_embedded_server_keeps_its_data(package: Path) -> None:
    for _ in range(2):
        async with running_command("run", "actorloom_shop.products", "--log-format", "text", cwd=package) as process:
            line = await process.until("embedded nats-server on")
            assert line.endswith(f"its data in {package / '.actorloom'}")
            url = line.split(" on ")[1].split(",")[0]
            mug = '{"productId":"mug","name":"Mug","price":1,"package":{"width":1,"length":1,"height":1,"weight":1}}'
            created = await run_command(
                "command", "products.create_product", mug, "--nats", url, "--id", "1", cwd=package
            )
            assert created.code == 0, created
            process.signal(signal.SIGINT)
            assert await process.wait() == 0
            assert "draining" in process.text and process.text.endswith("stopped\n")


async def test_a_running_request_is_answered_before_the_exit(
    nats_server: EmbeddedServer, package: Path, namespace: str
) -> None:
    flags = ("--nats", nats_server.url, "--namespace", namespace)
    async with (
        running_command("run", "greeting", *flags, cwd=package) as process,
        await Connection.connect(ConnectionOptions(url=nats_server.url)) as client,
    ):
        answered = asyncio.ensure_future(
            client.request(f"{namespace}.hello.query.greet", b'{"name":"slow"}', timeout=20)
        )
        # The next reply shows that the previous request is running.
        await client.request(f"{namespace}.hello.query.greet", b'{"name":"b"}', timeout=20)
        process.signal(signal.SIGTERM)
        assert (await answered).payload == b'"Hello slow"'
        assert await process.wait() == 0


async def test_a_second_signal_ends_the_process_at_once(
    nats_server: EmbeddedServer, package: Path, namespace: str
) -> None:
    flags = ("--nats", nats_server.url, "--namespace", namespace)
    async with (
        running_command("run", "greeting", *flags, cwd=package) as process,
        await Connection.connect(ConnectionOptions(url=nats_server.url)) as client,
    ):
        client.publish(f"{namespace}.hello.query.greet", b'{"name":"stuck"}', reply=b"_INBOX.unused")
        # The next reply shows that the previous request is running.
        await client.request(f"{namespace}.hello.query.greet", b'{"name":"b"}', timeout=20)
        process.signal(signal.SIGINT)
        await process.until("draining")
        process.signal(signal.SIGINT)
        assert await process.wait(timeout=10) == 128 + signal.SIGINT


async def test_the_health_port_serves_readiness_and_metrics(
    nats_server: EmbeddedServer, package: Path, namespace: str
) -> None:
    flags = ("--nats", nats_server.url, "--namespace", namespace)
    async with running_command("run", "greeting", *flags, "--health-port", "0", cwd=package) as process:
        port = (await process.until("health on")).split("127.0.0.1:")[1].split(" ")[0]

        def get(path: str) -> str:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.read().decode()

        assert json.loads(await asyncio.to_thread(get, "/readyz")) == {"status": "ok", "reasons": []}
        await run_command("query", "hello.greet", "name=Ada", *flags, cwd=package)
        assert "rpc_server_call_duration_seconds_count" in await asyncio.to_thread(get, "/metrics")
        answered = await run_command("health", cwd=package, env={"ACTORLOOM_HEALTH_PORT": port})
        assert (answered.code, json.loads(answered.out)["status"]) == (0, "ok")
    refused = await run_command("health", cwd=package, env={"ACTORLOOM_HEALTH_PORT": port})
    assert refused.code == 4


async def test_it_runs_on_uvloop_and_logs_json_without_a_terminal(
    nats_server: EmbeddedServer, package: Path, namespace: str
) -> None:
    flags = ("--nats", nats_server.url, "--namespace", namespace)
    async with running_command("run", "greeting", *flags, "--uvloop", cwd=package) as process:
        assert await process.stop() == 0
    lines = [json.loads(line) for line in process.text.splitlines()]
    assert [line["message"] for line in lines if line["logger"] == "actorloom.cli"][-1] == "stopped"


async def test_settings_of_the_file_are_used(nats_server: EmbeddedServer, package: Path, namespace: str) -> None:
    (package / "actorloom.toml").write_text(
        f'namespace = "{namespace}"\nlog_format = "text"\n[nats]\nurl = "{nats_server.url}"\n[actors.absent]\nlane = 1\n'
    )
    async with running_command("run", "greeting", cwd=package) as process:
        await process.until("the settings of absent are not used")
        answered = await run_command("query", "hello.greet", "name=7", cwd=package)
        assert answered.out == '"Hello 7"\n'


async def test_reload_restarts_the_actors_when_a_file_changes(package: Path) -> None:
    source = package / "greeting" / "inner" / "hello.py"
    async with running_command("run", "greeting", "--reload", "--log-format", "text", cwd=package) as process:
        url = (await process.until("embedded nats-server on")).split(" on ")[1].split(",")[0]
        await process.until("watching")
        source.write_text(HELLO.replace("Hello {", "Goodbye {"))
        await process.until("stopped")
        await process.until("ready:", 2)
        answered = await run_command("query", "hello.greet", "name=Ada", "--nats", url, cwd=package)
        assert answered.out == '"Goodbye Ada"\n'
        source.write_text("1 / 0")
        await process.until("Error: cannot import")
        source.write_text(HELLO)
        await process.until("ready:", 3)
        process.signal(signal.SIGINT)
        assert await process.wait() == 0
        assert "Traceback" not in process.text


async def test_help_imports_no_heavy_module_and_needs_no_server(tmp_path: Path) -> None:
    helped = await run_command("--help", cwd=tmp_path)
    assert helped.code == 0
    assert "No such command 'nonsense'" in (await run_command("nonsense", cwd=tmp_path)).err
    assert all(f"\n  {name} " in helped.out for name in ("run", "query", "emit", "describe", "demo"))
    loaded = await run_command("--debug", "--help", cwd=tmp_path, env={"PYTHONPROFILEIMPORTTIME": "1"}, fresh=True)
    assert "| click" in loaded.err or " click" in loaded.err
    assert not [line for line in loaded.err.splitlines() if line.endswith((" nats", " rich", " opentelemetry.sdk"))]
