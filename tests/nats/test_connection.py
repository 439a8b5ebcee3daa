"""The connection against a real nats-server, with the fast transport and with the public one."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from runtime.errors import ConfigurationError, PublishError
from runtime.nats.connection import (
    Connection,
    ConnectionLost,
    ConnectionOptions,
    NoResponders,
    NotConnected,
    Subscription,
)
from runtime.nats.fast import FastTransport
from runtime.nats.public import PublicTransport
from runtime.nats.server import EmbeddedServer
from runtime.wire import header_block
from tests.support.waiting import until

BLOCK = header_block.encode([("traceparent", "00-1"), ("A", "b c")])


@pytest.fixture(params=["fast", "public"])
def public_api(request: pytest.FixtureRequest) -> bool:
    return request.param == "public"


@pytest.fixture
async def connection(nats_server: EmbeddedServer, public_api: bool) -> AsyncIterator[Connection]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url, public_api=public_api)) as connection:
        yield connection


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A server that the test may kill."""
    async with EmbeddedServer(port=0, store_dir=tmp_path) as server:
        yield server


def suspend(server: EmbeddedServer) -> None:
    """Make the server silent while its sockets stay open."""
    os.kill(server.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, server.pid, os.WSTOPPED)  # all of its threads


@contextmanager
def suspended(server: EmbeddedServer) -> Iterator[None]:
    """Keep the server silent for the block."""
    suspend(server)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def echo(connection: Connection, subject: str, *, queue: str = "") -> Subscription:
    def answer(_: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        connection.respond(reply, payload, block)

    return await connection.subscribe(subject, answer, queue=queue)


async def test_the_connection_uses_the_wanted_transport(connection: Connection, public_api: bool) -> None:
    assert type(connection._transport) is (PublicTransport if public_api else FastTransport)


async def test_request_and_reply_with_headers(connection: Connection, namespace: str) -> None:
    await echo(connection, f"{namespace}.echo", queue="q")
    response = await connection.request(f"{namespace}.echo", b"hello", headers=BLOCK, timeout=2)
    assert response.payload == b"hello"
    assert header_block.parse(response.headers) == {"traceparent": "00-1", "A": "b c"}
    bare = await connection.request(f"{namespace}.echo".encode(), b"", timeout=2)
    assert (bare.headers, bare.payload) == (None, b"")


async def test_messages_arrive_whole_and_in_order(connection: Connection, namespace: str) -> None:
    got: list[tuple[bytes, bytes, bytes | None, bytes]] = []
    await connection.subscribe(f"{namespace}.>", lambda *message: got.append(message))
    for number in range(500):
        connection.publish(f"{namespace}.{number}", b"%d" % number, reply=b"r", headers=BLOCK if number % 2 else None)
    await until(lambda: len(got) == 500)
    for number, (subject, reply, block, payload) in enumerate(got):
        assert (subject, reply, payload) == (f"{namespace}.{number}".encode(), b"r", b"%d" % number)
        assert block == (BLOCK if number % 2 else None)


async def test_a_payload_of_any_bytes_and_of_the_largest_size(connection: Connection, namespace: str) -> None:
    await echo(connection, namespace)
    for payload in (b"", b"\r\n", b"MSG x 1 1\r\n", bytes(range(256)) * 4096):
        assert (await connection.request(namespace, payload, timeout=5)).payload == payload
    assert connection.max_payload == 1024 * 1024


async def test_concurrent_requests_get_their_own_replies(connection: Connection, namespace: str) -> None:
    await echo(connection, namespace)
    replies = await asyncio.gather(*(connection.request(namespace, b"%d" % n, timeout=5) for n in range(1000)))
    assert [int(reply.payload) for reply in replies] == list(range(1000))


async def test_no_subscriber_and_no_reply_are_different_errors(connection: Connection, namespace: str) -> None:
    with pytest.raises(NoResponders, match=f"no process serves {namespace}.none"):
        await connection.request(f"{namespace}.none", b"", timeout=2)
    await connection.subscribe(f"{namespace}.silent", lambda *_: None)
    with pytest.raises(TimeoutError, match=f"no reply to {namespace}.silent") as caught:
        await connection.request(f"{namespace}.silent", b"", timeout=0.02)
    assert not isinstance(caught.value, ConnectionLost)


async def test_late_replies_and_replies_to_cancelled_requests_are_dropped(
    connection: Connection, namespace: str
) -> None:
    asked: list[bytes] = []
    await connection.subscribe(f"{namespace}.slow", lambda _, reply, __, ___: asked.append(reply))
    with pytest.raises(TimeoutError):
        await connection.request(f"{namespace}.slow", b"", timeout=0.02)
    cancelled = asyncio.ensure_future(connection.request(f"{namespace}.slow", b"", timeout=5))
    await until(lambda: len(asked) == 2)
    cancelled.cancel()
    await asyncio.wait({cancelled})
    for reply in asked:
        connection.respond(reply, b"late")
    await connection.flush()
    await echo(connection, f"{namespace}.echo")
    assert (await connection.request(f"{namespace}.echo", b"x", timeout=2)).payload == b"x"
    assert len(connection._replies) == 0


async def test_each_deadline_ends_at_its_time_in_any_order(connection: Connection, namespace: str) -> None:
    await connection.subscribe(namespace, lambda *_: None)
    now = asyncio.get_running_loop().time()
    ended: list[int] = []
    futures = []
    for number in (3, 1, 2):
        future = connection.request_nowait(namespace.encode(), b"", None, now + number * 0.05)
        future.add_done_callback(lambda _, number=number: ended.append(number))
        futures.append(future)
    await asyncio.wait(futures)
    assert all(isinstance(future.exception(), TimeoutError) for future in futures)
    assert ended == [1, 2, 3]


async def test_a_queue_group_shares_messages_and_an_unsubscribed_receiver_gets_none(
    connection: Connection, namespace: str
) -> None:
    shares: list[list[bytes]] = [[], []]
    subscriptions = [
        await connection.subscribe(namespace, lambda *message, got=got: got.append(message[3]), queue="q")
        for got in shares
    ]
    for number in range(200):
        connection.publish(namespace, b"%d" % number)
    await until(lambda: len(shares[0]) + len(shares[1]) == 200)
    assert shares[0]
    assert shares[1]
    subscriptions[0].unsubscribe()
    subscriptions[0].unsubscribe()
    await connection.flush()
    before = len(shares[0])
    for number in range(50):
        connection.publish(namespace, b"%d" % number)
    await until(lambda: len(shares[0]) + len(shares[1]) == 250)
    assert len(shares[0]) == before


async def test_a_receiver_that_raises_is_logged_and_stays_subscribed(
    connection: Connection, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[bytes] = []

    def receive(_: bytes, __: bytes, ___: bytes | None, payload: bytes) -> None:
        got.append(payload)
        raise ValueError(payload)

    await connection.subscribe(namespace, receive)
    connection.publish(namespace, b"1")
    connection.publish(namespace, b"2")
    await until(lambda: got == [b"1", b"2"])
    assert caplog.text.count(f"a receiver of {namespace} raised") == 2
    assert connection.is_connected


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x 0\r\n", " a", "a\t"])
async def test_an_invalid_subject_is_refused_and_injects_nothing(connection: Connection, subject: str) -> None:
    with pytest.raises(PublishError):
        connection.publish(subject, b"")
    with pytest.raises(PublishError):
        connection.publish("a", b"", reply=subject.encode() or b" ")
    with pytest.raises(PublishError):
        await connection.request(subject, b"", timeout=1)
    with pytest.raises(PublishError):
        await connection.subscribe(subject, lambda *_: None)
    with pytest.raises(PublishError):
        await connection.subscribe("a", lambda *_: None, queue="a b")
    await connection.flush()
    assert len(connection._replies) == 0


async def test_a_reply_subject_that_is_not_utf8_fails_like_any_other(connection: Connection) -> None:
    with pytest.raises(PublishError, match=r"bytes \(headers included\) to _INBOX\.\\xff"):
        connection.respond(b"_INBOX.\xff", bytes(connection.max_payload + 1), None)
    await connection.close()
    with pytest.raises(NotConnected, match=r"_INBOX\.\\xff was not sent"):
        connection.respond(b"_INBOX.\xff", b"", None)


async def test_subscriptions_are_restored_when_the_server_restarts(
    own_server: EmbeddedServer, public_api: bool
) -> None:
    options = ConnectionOptions(url=own_server.url, public_api=public_api, reconnect_wait=0.02)
    async with await Connection.connect(options) as connection:
        reconnects: list[None] = []
        connection.on_reconnect.append(lambda: reconnects.append(None))
        await echo(connection, "before")
        ended = await echo(connection, "ended")
        await connection.subscribe("silent", lambda *_: None)
        waiting = asyncio.ensure_future(connection.request("silent", b"", timeout=30))
        await connection.flush()
        own_server.kill()
        with pytest.raises(ConnectionLost):
            await waiting
        assert not connection.is_connected
        with pytest.raises(NotConnected, match="before was not sent"):
            connection.publish("before", b"")
        with pytest.raises(NotConnected):
            connection.request_nowait(b"before", b"", None, asyncio.get_running_loop().time() + 9)
        with pytest.raises(NotConnected, match=r"not connected within 0\.05 s"):
            await connection.request("before", b"", timeout=0.05)
        with pytest.raises(NotConnected):
            await connection.flush()
        await echo(connection, "meanwhile")
        ended.unsubscribe()
        early = asyncio.ensure_future(connection.request("before", b"kept waiting", timeout=30))
        await own_server.start()
        assert (await early).payload == b"kept waiting"
        assert (await connection.request("meanwhile", b"x", timeout=5)).payload == b"x"
        with pytest.raises(NoResponders):
            await connection.request("ended", b"", timeout=5)
        await until(lambda: len(reconnects) == 1)
        assert connection.server_address == ("127.0.0.1", own_server.port)


async def test_a_flush_fails_with_its_connection(own_server: EmbeddedServer, public_api: bool) -> None:
    options = ConnectionOptions(url=own_server.url, public_api=public_api, ping_interval=1000)
    async with await Connection.connect(options) as connection:
        suspend(own_server)
        flushing = asyncio.ensure_future(connection.flush(timeout=1000))
        await asyncio.wait({flushing}, timeout=0.02)
        own_server.kill()
        with pytest.raises(ConnectionLost):
            await flushing


async def test_close_is_quick_and_final(nats_server: EmbeddedServer, public_api: bool, namespace: str) -> None:
    connection = await Connection.connect(ConnectionOptions(url=nats_server.url, public_api=public_api))
    other = await Connection.connect(ConnectionOptions(url=nats_server.url, public_api=public_api))
    got: list[bytes] = []
    await other.subscribe(namespace, lambda *message: got.append(message[3]))
    await other.flush()
    await connection.subscribe(f"{namespace}.silent", lambda *_: None)
    waiting = asyncio.ensure_future(connection.request(f"{namespace}.silent", b"", timeout=30))
    await connection.flush()
    connection.publish(namespace, b"last words")
    await connection.close()
    await connection.close()
    with pytest.raises(ConnectionLost):
        await waiting
    assert await connection.wait_closed() is None
    assert connection.is_closed
    for call in (lambda: connection.publish("a", b""), lambda: connection.respond(b"a", b"")):
        with pytest.raises(NotConnected):
            call()
    with pytest.raises(NotConnected):
        await connection.request("a", b"", timeout=1)
    with pytest.raises(NotConnected):
        await connection.subscribe("a", lambda *_: None)
    await until(lambda: got == [b"last words"])
    await other.close()


async def test_memory_is_bounded_if_the_server_stops_reading(own_server: EmbeddedServer, public_api: bool) -> None:
    options = ConnectionOptions(url=own_server.url, public_api=public_api)
    async with await Connection.connect(options) as connection:

        async def publish_endlessly() -> None:
            while True:
                connection.publish("a", b"x" * 1_000_000)
                await asyncio.sleep(0)

        with suspended(own_server):
            with pytest.raises(PublishError, match="bytes wait to be written"):
                await publish_endlessly()
        await connection.flush(timeout=30)
        connection.publish("a", b"again")


async def test_a_failure_to_connect_names_server_and_reason(public_api: bool) -> None:
    options = ConnectionOptions(url="nats://me:secret@127.0.0.1:1", public_api=public_api, connect_timeout=0.2)
    with pytest.raises(NotConnected, match=r"cannot connect to NATS at nats://127\.0\.0\.1:1: ") as caught:
        await Connection.connect(options)
    assert "secret" not in str(caught.value)


async def test_connecting_can_be_cancelled_at_any_time(nats_server: EmbeddedServer, public_api: bool) -> None:
    """No task is left. nats-py's own tasks ignore a cancellation while they connect again."""
    before = asyncio.all_tasks()
    options = ConnectionOptions(url=nats_server.url, public_api=public_api)
    done = False
    for steps in range(100):
        connecting = asyncio.ensure_future(Connection.connect(options))
        for _ in range(steps):
            await asyncio.sleep(0)  # one turn of the event loop
        connecting.cancel()
        await asyncio.wait({connecting}, timeout=10)
        assert connecting.done()
        if not connecting.cancelled():
            done = True
            await connecting.result().close()
        async with asyncio.timeout(30):
            while left := asyncio.all_tasks() - before:
                await asyncio.wait(left)
        if done:
            break
    assert done, "no attempt connected before its cancellation"


async def test_refused_credentials_fail_at_once(tmp_path: Path, public_api: bool) -> None:
    config = "authorization { user: me, password: right }"
    server = EmbeddedServer(port=0, store_dir=tmp_path, config=config)
    try:
        await server.start()
        options = ConnectionOptions(url=server.url, public_api=public_api, connect_timeout=30, user="me")
        started = time.monotonic()
        with pytest.raises(NotConnected, match=r"(?i)authorization violation"):
            await Connection.connect(_with(options, password="wrong"))
        assert time.monotonic() - started < 15  # not the 30 seconds for an unreachable server
        async with await Connection.connect(_with(options, password="right")) as connection:
            assert connection.is_connected
    finally:
        await server.stop()


async def test_broken_tls_files_are_named_in_the_error(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")
    with pytest.raises(ConfigurationError, match="TLS files"):
        await Connection.connect(ConnectionOptions(url="nats://127.0.0.1:1", ca=str(broken)))


def _with(options: ConnectionOptions, **changes: str) -> ConnectionOptions:
    return msgspec.structs.replace(options, **changes)
