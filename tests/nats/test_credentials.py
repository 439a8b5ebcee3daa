"""Credentials by nkey: read anew for each attempt, checked before use, and replaced while a process runs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from runtime import Actor, Command, ConfigurationError, command
from runtime.errors import ActorError
from runtime.host.host import Deployment
from runtime.host.process import Runner
from runtime.nats.connection import Connection, ConnectionOptions, NotConnected
from runtime.nats.jetstream.client import JetStream
from runtime.nats.lease_value import Kind, kind_of
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import Tracing
from tests.support.jwts import Operator
from tests.support.waiting import until


class Press(Command[int], actor="bell", key="place"):
    place: str


class Presses(msgspec.Struct, frozen=True):
    count: int


class Bell(Actor[Presses]):
    name = "bell"

    @command
    async def press(self, message: Press) -> int:
        self.state = Presses(1)
        return 1


class Setup(NamedTuple):
    operator: Operator
    server: EmbeddedServer


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    operator = Operator()
    async with EmbeddedServer(port=0, store_dir=tmp_path / "server", config=operator.config) as server:
        yield Setup(operator, server)


def runner_of(connection: Connection) -> Runner:
    return Runner([Bell], connection, Tracing(), Deployment(lease_ttl=30.0))


async def test_credentials_that_are_replaced_in_time_keep_the_process_connected(setup: Setup, tmp_path: Path) -> None:
    operator, server = setup
    creds = operator.user(tmp_path / "bell.creds", lifetime=2.5)
    options = ConnectionOptions(url=server.url, creds=creds)
    async with await Connection.connect(options) as connection:
        reconnects: list[None] = []
        connection.on_reconnect.append(lambda: reconnects.append(None))
        runner = runner_of(connection)
        work = asyncio.ensure_future(runner.run())
        await runner.wait_serving()
        operator.user(tmp_path / "bell.creds")
        await until(lambda: reconnects or work.done(), 30)
        assert not work.done()
        async with await Connection.connect(options) as other:
            assert (await other.request("bell.command.press", b'{"place":"a"}', timeout=10)).payload == b"1"
        runner.stop()
        await work


async def test_credentials_that_expire_end_the_process_with_its_lease_released(setup: Setup, tmp_path: Path) -> None:
    operator, server = setup
    others = ConnectionOptions(url=server.url, creds=operator.user(tmp_path / "other.creds"))
    # The server closes the connection itself if this machine stands still in the last tenth of the time.
    for lifetime in (2.5, 10.0):
        creds = operator.user(tmp_path / "bell.creds", lifetime=lifetime)
        async with await Connection.connect(ConnectionOptions(url=server.url, creds=creds)) as connection:
            with pytest.raises(ActorError) as raised:
                await runner_of(connection).run()
        async with await Connection.connect(others) as connection:
            jetstream = JetStream(connection)
            stored = await jetstream.get_last("KV_leases", "$KV.leases.bell.0")
            if "closed for good" not in str(raised.value):
                break
            if stored is not None:
                await jetstream.purge("KV_leases", "$KV.leases.bell.0", stored.sequence)
    assert "bell.creds expire now, and were not replaced" in str(raised.value)
    assert kind_of(stored) is Kind.RELEASED  # the lease itself would live for 30 s


async def test_a_file_in_the_middle_of_its_replacement_is_read_again(setup: Setup, tmp_path: Path) -> None:
    operator, server = setup
    path = tmp_path / "bell.creds"
    creds = operator.user(path)
    options = ConnectionOptions(url=server.url, creds=creds, reconnect_wait=0.02)
    async with await Connection.connect(options) as connection:
        errors: list[Exception] = []
        connection.on_error.append(errors.append)
        path.write_text("-----BEGIN NATS USER JWT-----\n")
        server.kill()
        await until(lambda: not connection.is_connected, 30)
        await server.start()
        await until(lambda: any("is not a credentials file" in str(error) for error in errors), 30)
        operator.user(path)
        await connection.wait_connected(20)
        await connection.flush()


@pytest.mark.parametrize(
    "text", ["", "no credentials", "-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------"]
)
@pytest.mark.parametrize("field", ["creds", "nkey"])
async def test_a_file_without_a_seed_is_refused_at_the_start(tmp_path: Path, field: str, text: str) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    async with asyncio.timeout(20):
        with pytest.raises(ConfigurationError, match=str(path)):
            await Connection.connect(ConnectionOptions(url="nats://127.0.0.1:1", **{field: str(path)}))


async def test_an_nkey_and_a_jwt_without_a_file(setup: Setup, tmp_path: Path) -> None:
    operator, server = setup
    text = Path(operator.user(tmp_path / "bell.creds")).read_text().split()
    jwt, seed = (next(word for word in text if word.startswith(start)) for start in ("ey", "SU"))
    await (await Connection.connect(ConnectionOptions(url=server.url, user_jwt=jwt, user_seed=seed))).close()
    with pytest.raises(NotConnected, match=r"(?i)authorization violation"):
        await Connection.connect(ConnectionOptions(url=server.url, user_jwt=jwt))  # it is no bearer token
