"""Pitfalls of nats-py: each ends or deafens a plain nats-py client, the control, but not a connection of ours."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from runtime.errors import PublishError
from runtime.nats import fast
from runtime.nats.connection import Connection, ConnectionLost, ConnectionOptions, NotConnected, PermissionDenied
from runtime.nats.server import EmbeddedServer
from runtime.wire import header_block
from tests.support.waiting import until

ACCOUNTS = """
authorization { users: [
  { user: reader, password: secret, permissions: { publish: ["*.query.>", "_INBOX.>"], subscribe: ["_INBOX.>", "a.>"] } }
  { user: all, password: secret }
] }
"""


@pytest.fixture(params=["fast", "public"])
def public_api(request: pytest.FixtureRequest) -> bool:
    return request.param == "public"


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(port=0, store_dir=tmp_path) as server:
        yield server


def options_of(server: EmbeddedServer, public_api: bool, **more: object) -> ConnectionOptions:
    """Options with short intervals, so that a connection recovers soon."""
    return ConnectionOptions(url=server.url, public_api=public_api, reconnect_wait=0.02, ping_interval=0.1, **more)  # type: ignore[arg-type]


async def ignore(_: Exception) -> None:
    """Ignore an error of the control, which is expected."""


@asynccontextmanager
async def raw_nats_py(server: EmbeddedServer, **options: object) -> AsyncIterator[Client]:
    client = await nats.connect(server.url, error_cb=ignore, **options)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        await client.close()


async def flush_twice(client: Client) -> None:
    """Wait until the server has the subscriptions of a plain client. One flush of it is not a barrier, two are."""
    await client.flush()
    await client.flush()


async def send_raw(server: EmbeddedServer, frames: bytes) -> None:
    """Send bytes without a client library, which would refuse them; return when the server has processed them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n' + frames + b"PING\r\n")
    async with asyncio.timeout(30):
        while await reader.readline() not in (b"PONG\r\n", b""):
            continue
    writer.close()
    await writer.wait_closed()


@contextmanager
def stopped(server: EmbeddedServer) -> Iterator[None]:
    """Keep the server silent with open sockets, like a machine that hangs or a network that drops packets."""
    os.kill(server.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, server.pid, os.WSTOPPED)  # all of its threads
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    "frame",
    [b"HPUB poison 8 9\r\nNATS/1.0x\r\n", b"PUB poison.\xff\xfe 1\r\nx\r\n"],
    ids=["header block of 8 bytes", "subject that is not UTF-8"],
)
async def test_a_malformed_message_does_not_deafen_the_connection(
    own_server: EmbeddedServer, public_api: bool, frame: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "nats.aio.client")
    async with (
        raw_nats_py(own_server) as raw,
        await Connection.connect(options_of(own_server, public_api)) as connection,
    ):
        await raw.subscribe("poison", cb=ignore)
        await raw.subscribe("poison.>", cb=ignore)
        await flush_twice(raw)
        got: list[tuple[bytes, bytes | None]] = []
        for subject in ("poison", "poison.>", "fine"):
            await connection.subscribe(subject, lambda name, _, block, __: got.append((name, block)))
        await connection.flush()
        await send_raw(own_server, frame)
        await until(lambda: raw._reading_task is not None and raw._reading_task.done())
        assert raw.is_connected  # the control is deaf and reports nothing
        if not public_api:
            await until(lambda: got)  # with the fast transport it is a message like any other
            assert got == [(frame.split()[1], b"NATS/1.0" if frame.startswith(b"H") else None)]
            got.clear()
        while not got:  # with the public transport the read loop ends, and nats-py's pings notice it
            await asyncio.sleep(0.02)
            if connection.is_connected:
                connection.publish("fine", b"x")
        assert got[0] == (b"fine", None)


@pytest.mark.parametrize("frame", [b"HPUB poison.a 8 9\r\nNATS/1.0x\r\n", b"PUB poison.\xff\xfe 1\r\nx\r\n"])
async def test_subscriptions_of_nats_py_itself_do_not_deafen_the_fast_transport(
    own_server: EmbeddedServer, frame: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with await Connection.connect(options_of(own_server, public_api=False)) as connection:
        received: asyncio.Queue[bytes] = asyncio.Queue()
        reading = connection._client._reading_task

        async def on_message(message: Msg) -> None:
            await received.put(message.data)

        await connection._client.subscribe("poison.>", cb=on_message)
        await flush_twice(connection._client)
        await send_raw(own_server, frame)
        connection.publish("poison.b", b"x", headers=header_block.encode([("a", "b")]))
        assert await received.get() == b"x"
        assert connection._client._reading_task is reading
    assert "skipped a frame that nats-py cannot read" in caplog.text


async def test_a_late_pong_does_not_deafen_the_connection(
    own_server: EmbeddedServer, public_api: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "nats.aio.client")
    options = ConnectionOptions(url=own_server.url, public_api=public_api)
    async with raw_nats_py(own_server) as raw, await Connection.connect(options) as connection:
        got: list[bytes] = []
        await connection.subscribe("a", lambda *message: got.append(message[3]))
        await connection.flush()
        reading = connection._client._reading_task
        with stopped(own_server):
            with pytest.raises(TimeoutError):
                await connection.flush(timeout=0.05)
            with pytest.raises(nats.errors.TimeoutError):
                await raw.flush(timeout=0.05)  # type: ignore[arg-type]
        await until(lambda: raw._reading_task is not None and raw._reading_task.done())
        assert raw.is_connected  # the control is deaf
        await connection.flush()
        connection.publish("a", b"x")
        await until(lambda: got == [b"x"])
        assert connection._client._reading_task is reading


async def test_a_dead_read_loop_is_noticed_and_replaced(own_server: EmbeddedServer, public_api: bool) -> None:
    # The fast transport watches the read loop itself; the public one relies on nats-py's pings.
    options = ConnectionOptions(url=own_server.url, public_api=public_api, ping_interval=0.1 if public_api else 1000)
    async with await Connection.connect(options) as connection:
        back: list[bool] = []
        connection.on_reconnect.append(lambda: back.append(True))
        got: list[bytes] = []
        await connection.subscribe("a", lambda *message: got.append(message[3]))
        await connection.flush()
        reading = connection._client._reading_task
        assert reading is not None
        reading.cancel()
        await until(lambda: back)
        connection.publish("a", b"x")
        await until(lambda: got == [b"x"])


async def test_a_silent_server_is_noticed(own_server: EmbeddedServer, public_api: bool) -> None:
    async with await Connection.connect(options_of(own_server, public_api)) as connection:
        await connection.subscribe("silent", lambda *_: None)
        waiting = asyncio.ensure_future(connection.request("silent", b"", timeout=50))
        await connection.flush()
        with stopped(own_server), pytest.raises(ConnectionLost):
            await waiting
        await connection.wait_connected(20)


async def test_headers_count_toward_the_size_limit_and_the_connection_stays_open(
    own_server: EmbeddedServer, public_api: bool
) -> None:
    async with await Connection.connect(options_of(own_server, public_api)) as connection:
        payload = b"x" * connection.max_payload
        connection.publish("a", payload)
        block = header_block.encode([("a", "b")])
        with pytest.raises(PublishError, match="headers included"):
            connection.publish("a", payload, headers=block)
        with pytest.raises(PublishError, match="headers included"):
            await connection.request("a", payload + b"x", timeout=1)
        with pytest.raises(PublishError, match="headers included"):
            connection.respond(b"a", payload, block)
        connection.publish("a", payload[len(block) :], headers=block)
        await connection.flush()
        assert len(connection._replies) == 0
    async with raw_nats_py(own_server, max_reconnect_attempts=-1) as raw:
        await raw.publish("a", payload, headers={"a": "b"})
        await until(lambda: raw.is_closed)  # the control


async def test_nothing_is_kept_while_disconnected_and_sent_later(own_server: EmbeddedServer, public_api: bool) -> None:
    options = options_of(own_server, public_api)
    async with (
        raw_nats_py(own_server, reconnect_time_wait=0.02) as raw,
        await Connection.connect(options) as connection,
    ):
        got: list[bytes] = []
        await connection.subscribe("do", lambda *message: got.append(message[3]))
        await connection.flush()
        own_server.kill()
        await until(lambda: not raw.is_connected and not connection.is_connected)
        with pytest.raises(NotConnected):
            connection.publish("do", b"ours")
        with pytest.raises(NotConnected):
            await connection.request("do", b"ours", timeout=0.02)
        await raw.publish("do", b"raw")
        assert raw.pending_data_size > 0  # the control will send it, although its caller may have given up
        await own_server.start()
        await connection.wait_connected(20)
        await connection.flush()
        connection.publish("do", b"new")
        await until(lambda: b"new" in got)
        assert set(got) <= {b"raw", b"new"}


async def test_rotated_credentials_close_with_the_reason(tmp_path: Path, public_api: bool) -> None:
    users = tmp_path / "users.conf"
    users.write_text("authorization { user: me, password: old }")
    async with EmbeddedServer(port=0, store_dir=tmp_path, config='include "users.conf"') as server:
        connection = await Connection.connect(options_of(server, public_api, user="me", password="old"))
        waiting = asyncio.ensure_future(connection.wait_closed())
        users.write_text("authorization { user: me, password: new }")
        os.kill(server.pid, signal.SIGHUP)
        reason = await waiting
        assert "authorization" in str(reason).lower()
        assert connection.is_closed
        with pytest.raises(NotConnected, match="closed"):
            await connection.request("a", b"", timeout=1)
        await connection.close()


async def test_a_refused_request_fails_at_once(tmp_path: Path, public_api: bool) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path, config=ACCOUNTS) as server:
        options = options_of(server, public_api, user="reader", password="secret")
        async with await Connection.connect(options) as connection:
            errors: list[Exception] = []
            connection.on_error.append(errors.append)
            with pytest.raises(PermissionDenied, match=r"(?i)orders\.command\.createOrder"):
                await connection.request("orders.command.createOrder", b"", timeout=50)
            refused = await connection.subscribe("Other.>", lambda *_: None)
            allowed = await connection.subscribe("a.b", lambda *_: None)
            queued = await connection.subscribe("other.*", lambda *_: None, queue="q")
            await connection.flush()
            await until(lambda: refused.error and queued.error)
            assert allowed.error is None
            assert len(errors) == 3
            assert connection.is_connected
        async with raw_nats_py(server, user="reader", password="secret") as raw:
            with pytest.raises(nats.errors.TimeoutError):  # the control
                await raw.request("orders.command.createOrder", b"", timeout=0.1)


async def test_flush_is_a_barrier(own_server: EmbeddedServer, public_api: bool) -> None:
    options = options_of(own_server, public_api)
    async with await Connection.connect(options) as connection, await Connection.connect(options) as other:
        got: list[bytes] = []
        await other.subscribe("a", lambda *message: got.append(message[3]))
        await other.flush()
        for size in (1, 1000, 50_000, 50_000, 50_000):
            got.clear()
            for _ in range(100):
                connection.publish("a", b"x" * size)
            await connection.flush()
            await other.flush()  # the server sends its PONG after the earlier messages
            if public_api:
                await until(lambda: len(got) == 100)  # nats-py delivers through a queue
            assert len(got) == 100


async def test_close_does_not_wait_for_a_silent_server(own_server: EmbeddedServer, public_api: bool) -> None:
    connection = await Connection.connect(ConnectionOptions(url=own_server.url, public_api=public_api))
    with stopped(own_server):
        for _ in range(100):
            connection.publish("a", b"x" * 100_000)
        started = time.monotonic()
        await connection.close()
        assert time.monotonic() - started < 15  # a drain of nats-py takes 30 seconds by default


async def test_no_secret_in_the_address_or_the_log(
    tmp_path: Path, public_api: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with EmbeddedServer(port=0, store_dir=tmp_path, config=ACCOUNTS) as server:
        url = f"nats://all:secret@127.0.0.1:{server.port}"
        options = ConnectionOptions(url=url, public_api=public_api, reconnect_wait=0.02)
        async with await Connection.connect(options) as connection:
            assert connection.server_address == ("127.0.0.1", server.port)
            server.kill()
            await until(lambda: not connection.is_connected)
            with pytest.raises(NotConnected) as caught:
                await connection.request("a", b"", timeout=0.05)
            await server.start()
            await connection.wait_connected(20)
        assert "secret" not in caplog.text + str(caught.value) + repr(options)


READS = """
import asyncio, resource, sys
from runtime.nats.connection import Connection, ConnectionOptions

async def main():
    async with await Connection.connect(ConnectionOptions(url=sys.argv[1], public_api=False)) as connection:
        await connection.subscribe("a", lambda _, reply, __, payload: connection.respond(reply, payload))
        for _ in range(500):
            await connection.request("a", b"warm", timeout=30)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(1000):
            await connection.request("a", b"x", timeout=30)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the test measures glibc's allocator")
async def test_a_read_does_not_take_a_buffer_from_the_kernel(own_server: EmbeddedServer) -> None:
    """A process of its own is needed: any large block that was freed before hides the effect."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", READS, own_server.url, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert int(output) < 500  # page faults in 2,000 reads; 2,000 and more without `_keep_read_buffers`


def test_the_installed_nats_py_has_the_known_internals() -> None:
    """If this fails, compare `runtime/nats/fast.py` with the new nats-py, then widen SUPPORTED or adapt the module."""
    assert fast.unsupported_reason(Client(), ["nats://127.0.0.1:4222"]) is None


async def test_unknown_internals_select_the_public_api(
    own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fast, "_PROBES", (*fast._PROBES, "_gone"))
    async with await Connection.connect(ConnectionOptions(url=own_server.url, public_api=False)) as connection:
        await connection.flush()
    assert "the slower public API of nats-py is used" in caplog.text
    assert "lacks _gone" in caplog.text
    monkeypatch.setattr(fast, "SUPPORTED", ((3, 0), (4, 0)))
    assert "not a version" in str(fast.unsupported_reason(Client(), []))
    monkeypatch.undo()
    assert "WebSocket" in str(fast.unsupported_reason(Client(), ["ws://127.0.0.1:1"]))
