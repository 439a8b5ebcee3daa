"""A nats-server that is too old for actors is refused at the start, with the sentence of the doctor."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from runtime import Actor, ConfigurationError
from runtime.admin.doctor import examine
from runtime.cli.failures import USAGE
from runtime.host.local import local
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import SERVER_VARIABLE
from tests.support.old_servers import OLD_VERSIONS, old_server
from tests.support.ports import free_ports
from tests.support.process import run_command
from tests.support.raw_server import raw_server

SENTENCE = "nats-server {} is too old: install 2.14 or later: actors with state need it"
ACTOR = """
from runtime import Actor, Query, query

class Ping(Query[str], actor="aged"):
    pass

class Aged(Actor):
    name = "aged"

    @query
    async def ping(self, message: Ping) -> str:
        return "pong"
"""
NAMES: dict[str, Any] = {"__name__": "aged"}
exec(ACTOR, NAMES)
AGED: type[Actor[Any]] = NAMES["Aged"]


def config(directory: Path, port: int) -> str:
    return f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{directory}/js" }}\n'


@pytest.mark.parametrize("version", OLD_VERSIONS)
async def test_an_older_server_is_refused_at_the_start(version: str, tmp_path: Path) -> None:
    binary = old_server(version)
    sentence = SENTENCE.format(version)
    (tmp_path / "aged.py").write_text(ACTOR)
    [port] = free_ports(1)
    with raw_server(tmp_path, config(tmp_path, port), binary):
        url = f"nats://127.0.0.1:{port}"
        async with await Connection.connect(ConnectionOptions(url=url, connect_timeout=20)) as connection:
            finding = await anext(aiter(examine(connection, probe=False)))
        assert f"{finding.text}: {finding.todo}" == sentence
        done = await run_command("run", "aged:Aged", "--nats", url, cwd=tmp_path)
        assert (done.code, sentence in done.err) == (USAGE, True), done.err
        with pytest.raises(ConfigurationError, match=sentence):
            async with local(AGED, url=url):
                pass


async def test_an_older_embedded_server_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = OLD_VERSIONS[-1]
    monkeypatch.setenv(SERVER_VARIABLE, str(old_server(version)))
    (tmp_path / "aged.py").write_text(ACTOR)
    commands = (("run", "aged:Aged"), ("demo", "--exit", "--port", "0"))
    for done in await asyncio.gather(*(run_command(*command, cwd=tmp_path) for command in commands)):
        assert (done.code, SENTENCE.format(version) in done.err) == (USAGE, True), done.err
    with pytest.raises(ConfigurationError, match=SENTENCE.format(version)):
        async with local(AGED):
            pass


async def test_a_reconnect_skips_an_older_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The member of a cluster that comes back is older than the one that ended."""
    old = old_server(OLD_VERSIONS[-1])
    caplog.set_level(logging.WARNING)
    [port] = free_ports(1)
    options = ConnectionOptions(url=f"nats://127.0.0.1:{port}", reconnect_wait=0.02)
    with raw_server(tmp_path / "new", config(tmp_path / "new", port)) as server:
        async with await Connection.connect(options) as connection:
            connection.require_version()
            server.kill()
            server.wait()
            with raw_server(tmp_path / "old", config(tmp_path / "old", port), old):
                while f"nats-server {OLD_VERSIONS[-1]} is too old" not in caplog.text:
                    await asyncio.sleep(0.005)
                assert not connection.is_connected
            with raw_server(tmp_path / "new", config(tmp_path / "new", port)):
                await connection.wait_connected(20)
                await connection.flush()
