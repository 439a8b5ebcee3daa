"""How a connection learns the time of the server: it asks, survives a refusal, and asks again after a reconnect."""

import logging
import time
from pathlib import Path

import pytest

from runtime.nats.connection import Connection, ConnectionOptions, PermissionDenied
from runtime.nats.server import EmbeddedServer
from runtime.nats.server_time import SUBJECT
from tests.support.jwts import Operator
from tests.support.waiting import until

PLAIN = (
    "authorization { users: [ { user: admin, password: admin }, "
    "{ user: reader, password: reader, permissions: { publish: '*.query.>', subscribe: '_INBOX.>' } } ] }"
)


async def test_the_time_is_known_before_the_first_request(nats_server: EmbeddedServer) -> None:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        assert connection.clock.known and connection.clock_fault == ""
        assert connection.clock.bound is not None and connection.clock.bound < 0.25


async def test_a_refused_question_neither_fails_nor_delays_the_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "actorloom.nats")
    async with EmbeddedServer(port=0, store_dir=tmp_path, config=PLAIN) as server:
        options = ConnectionOptions(url=f"nats://reader:reader@127.0.0.1:{server.port}")
        async with await Connection.connect(options) as connection:
            assert not connection.clock.known and SUBJECT in connection.clock_fault
            refused: list[Exception] = []
            connection.on_error.append(refused.append)
            connection._server_time.reconnected()
            await until(lambda: any(isinstance(error, PermissionDenied) for error in refused))
            await connection.flush()
    lines = [record for record in caplog.records if SUBJECT in record.getMessage()]
    assert [record.levelno for record in lines] == [logging.INFO]


async def test_the_server_is_asked_again_after_a_reconnect(tmp_path: Path) -> None:
    server = EmbeddedServer(port=0, store_dir=tmp_path)
    await server.start()
    try:
        options = ConnectionOptions(url=server.url, reconnect_wait=0.05)
        async with await Connection.connect(options) as connection:
            asked = connection._server_time._asked
            await server.stop()
            connection.clock.follow_wall()
            await server.start()
            await until(lambda: connection.clock.known)
            assert connection._server_time._asked > asked
    finally:
        await server.stop()


async def test_an_account_of_an_operator_may_ask_too(tmp_path: Path) -> None:
    operator = Operator()
    async with EmbeddedServer(port=0, store_dir=tmp_path / "nats", config=operator.config) as server:
        options = ConnectionOptions(url=server.url, creds=operator.user(tmp_path / "user.creds"))
        async with await Connection.connect(options) as connection:
            assert connection.clock.known


async def test_the_expiry_of_credentials_goes_by_the_clock_of_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, real = Operator(), time.time
    async with EmbeddedServer(port=0, store_dir=tmp_path / "nats", config=operator.config) as server:
        creds = operator.user(tmp_path / "user.creds", lifetime=30)
        monkeypatch.setattr(time, "time", lambda: real() + 60)
        async with await Connection.connect(ConnectionOptions(url=server.url, creds=creds)) as connection:
            await connection.flush()
            assert connection.clock.skew == pytest.approx(60, abs=0.5)
    assert "expire" not in caplog.text
