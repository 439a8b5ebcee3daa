"""The bus: the replies and errors that a caller receives."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from runtime import (
    CallCycle,
    CodecError,
    Command,
    DeadlineExceeded,
    DeclarationError,
    Event,
    HandlerFailed,
    InvalidMessage,
    NotDelivered,
    NotFound,
    Overloaded,
    PublishError,
    Query,
    Rejected,
    RemoteError,
    RequestError,
    RetryPolicy,
    connect,
)
from runtime.actor.call import Call, CallScope
from runtime.client.breaker import BreakerPolicy
from runtime.client.bus import Bus
from runtime.client.sender import RESEND_PERIOD
from runtime.errors import CircuitOpen
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import Tracing
from tests.support.waiting import until


class Value(msgspec.Struct, frozen=True):
    value: int = 0


class Ask(Query[Value], actor="foreign"):
    value: int = 0


class Tell(Command[Value], actor="foreign"):
    value: int = 0


class Order(Command[None], actor="foreign"):
    pass


class NoteWritten(Event, actor="foreign"):
    value: int = 0


class SoldOut(Rejected):
    """A refusal whose constructor has other parameters."""

    def __init__(self, product: str, amount: int) -> None:
        super().__init__(f"{amount} of {product}")


class Foreign:
    """A service in another language: a raw NATS client with prepared replies."""

    def __init__(self, client: Client, namespace: str, url: str) -> None:
        self.client = client
        self.namespace = namespace
        self.url = url
        self.seen: list[Msg] = []

    async def reply_with(self, operation: str, *replies: tuple[bytes, dict[str, str] | None] | None) -> None:
        """Reply to each request with the next of `replies`, and from then on with the last one; None sends no reply."""
        remaining = list(replies)

        async def handle(message: Msg) -> None:
            self.seen.append(message)
            reply = remaining.pop(0) if len(remaining) > 1 else remaining[0]
            if reply is not None:
                await self.client.publish(message.reply, reply[0], headers=reply[1])

        await self.client.subscribe(f"{self.namespace}.foreign.{operation}", cb=handle)
        # flush() of nats-py is not a barrier. When this message returns, the server has processed the subscription.
        echo = await self.client.subscribe(inbox := self.client.new_inbox())
        await self.client.publish(inbox)
        await echo.next_msg(timeout=5)
        await echo.unsubscribe()


@pytest.fixture
async def foreign(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Foreign]:
    client = await nats.connect(nats_server.url)
    yield Foreign(client, namespace, nats_server.url)
    await client.close()


@pytest.fixture
async def bus(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Bus]:
    async with connect(nats_server.url, namespace=namespace, timeout=2) as opened:
        yield opened


def error(
    code: int, kind: str, message: str = "no", executed: bool | None = False, **more: Any
) -> tuple[bytes, dict[str, str]]:
    body = {"error": {"code": code, "kind": kind, "message": message, "executed": executed, **more}}
    return json.dumps(body).encode(), {"Nats-Service-Error": message, "Nats-Service-Error-Code": str(code)}


@pytest.mark.parametrize(("timeout", "least"), [(0.5, 2), (60.0, 20)])
async def test_a_request_to_a_missing_service_fails_after_a_second_as_not_executed(
    bus: Bus, timeout: float, least: int
) -> None:
    start = time.monotonic()
    errors = await asyncio.gather(
        bus.query(Ask(), timeout=timeout), bus.command(Tell(), timeout=timeout), return_exceptions=True
    )
    seconds = time.monotonic() - start
    for error in errors:
        assert isinstance(error, NotDelivered) and "no process serves it" in str(error) and error.executed is False
    assert seconds >= min(timeout / 2, RESEND_PERIOD)
    assert bus._sender.retries.value >= least


async def test_a_caller_that_stood_still_makes_its_other_attempts_all_the_same(bus: Bus, foreign: Foreign) -> None:
    sent = asyncio.ensure_future(bus.command(Tell(), timeout=60))
    await until(lambda: bus._sender.retries.value)
    time.sleep(RESEND_PERIOD)  # noqa: ASYNC251 - nothing runs meanwhile
    before = bus._sender.retries.value
    await until(lambda: sent.done() or bus._sender.retries.value > before + 2)
    await foreign.reply_with("command.tell", (b"{}", None))
    assert await sent == Value()


async def test_hundreds_of_requests_to_a_missing_service_get_replies_once_it_starts(
    foreign: Foreign, nats_server: EmbeddedServer, namespace: str
) -> None:
    tracing = Tracing(in_memory=True)
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        bus = Bus(connection, tracing.service("t"), namespace=namespace)
        sent = [asyncio.ensure_future(bus.command(Tell(number), id=f"id {number}")) for number in range(300)]
        async with asyncio.timeout(30):
            while bus._sender.retries.value < 400:  # more than the budget for retries allows
                await asyncio.sleep(0)
        await foreign.reply_with("command.tell", (b"{}", None))
        assert await asyncio.gather(*sent) == [Value()] * 300
    ids = [message.headers["Idempotency-Key"] for message in foreign.seen if message.headers]
    assert sorted(ids) == sorted(f"id {number}" for number in range(300)), "each once, under its id"
    spans = [span for span in tracing.finished() if span.name == "foreign/tell"]
    assert len(spans) == 300 + bus._sender.retries.value, "each attempt is a span"
    assert bus._sender.budget.spend() and bus._sender.budget._tokens >= 49


async def test_a_503_reply_is_retried_for_handlers_within_the_budget(bus: Bus, foreign: Foreign) -> None:
    refusal = error(503, "NotDelivered")
    asking = asyncio.ensure_future(bus.query(Ask()))
    async with asyncio.timeout(30):
        while not bus._sender.retries.value:
            await asyncio.sleep(0.001)
    await foreign.reply_with("query.ask", refusal, refusal, refusal, (b"{}", None), refusal)
    with pytest.raises(NotDelivered) as caught:
        await asking
    assert caught.value.remote and len(foreign.seen) == 1, "a plain program uses `retry`"
    call = Call(scope=CallScope("asker", bus, None, "test"))
    assert await bus.request(Ask(), command_id=None, timeout=5, call=call) == Value()
    assert bus._sender.budget._tokens == 48
    while bus._sender.budget.spend():
        pass
    with pytest.raises(NotDelivered):
        await bus.request(Ask(), command_id=None, timeout=5, call=call)
    assert len(foreign.seen) == 5


async def test_a_request_without_a_reply_has_an_unknown_outcome(bus: Bus, foreign: Foreign) -> None:
    await foreign.reply_with("command.tell", None)
    with pytest.raises(DeadlineExceeded, match="no reply in time") as caught:
        await bus.command(Tell(), timeout=0.1)
    assert caught.value.executed is None and len(foreign.seen) == 1


async def test_the_body_and_headers_of_a_request(bus: Bus, foreign: Foreign, namespace: str) -> None:
    await foreign.reply_with("command.tell", (b'{"value":7}', None))
    await foreign.reply_with("query.ask", (b'{"value":8}', None))
    assert await bus.command(Tell(5), id="my-id", timeout=3) == Value(7) and await bus.query(Ask(6)) == Value(8)
    command, query = foreign.seen
    assert command.data == b'{"value":5}' and query.data == b'{"value":6}' and command.headers and query.headers
    assert command.headers["Idempotency-Key"] == "my-id" and "Idempotency-Key" not in query.headers
    assert 2 < int(command.headers["Deadline"]) / 1000 - time.time() < 3.1
    assert not {"Call-Chain", "Content-Type"} & (set(command.headers) | set(query.headers))


async def test_a_messagepack_reply_is_decoded(bus: Bus, foreign: Foreign) -> None:
    packed = msgspec.msgpack.encode(Value(9))
    await foreign.reply_with("query.ask", (packed, {"Content-Type": "application/msgpack"}))
    assert await bus.query(Ask()) == Value(9)


async def test_a_reply_of_another_type_means_that_the_command_was_executed(bus: Bus, foreign: Foreign) -> None:
    await foreign.reply_with("command.tell", (b'{"value":"x"}', None), (b"\xff", None), (b"[" * 100_000, None))
    for _ in range(3):
        with pytest.raises(HandlerFailed, match="the reply does not fit") as caught:
            await bus.command(Tell())
        assert caught.value.executed is True


async def test_a_command_without_a_result_accepts_any_reply(bus: Bus, foreign: Foreign) -> None:
    await foreign.reply_with("command.order", (b"", None), (b"null", None), (b"OK", None))
    assert [await bus.command(Order()) for _ in range(3)] == [None, None, None]


@pytest.mark.parametrize(
    ("reply", "kind", "executed"),
    [
        (error(400, "InvalidMessage"), InvalidMessage, False),
        (error(403, "Forbidden"), RemoteError, False),
        (error(404, "NotFound"), NotFound, False),
        (error(404, "ElsewhereNotFound"), NotFound, False),
        (error(408, "DeadlineExceeded", executed=None), DeadlineExceeded, None),
        (error(408, "DeadlineExceeded", executed=False), DeadlineExceeded, False),
        (error(409, "SoldOut"), SoldOut, False),
        (error(409, "UnknownHere"), Rejected, False),
        (error(409, "SoldOut", retryAfter=0.7), SoldOut, False),
        (error(429, "Overloaded", retryAfter=0.7), Overloaded, False),
        (error(500, "HandlerFailed", executed=None), HandlerFailed, None),
        (error(503, "NotDelivered"), NotDelivered, False),
        (error(508, "CallCycle"), CallCycle, False),
        (error(599, "New", more=1), RemoteError, False),
    ],
)
async def test_each_error_of_the_wire_contract(
    bus: Bus, foreign: Foreign, reply: Any, kind: type, executed: bool | None
) -> None:
    await foreign.reply_with("command.tell", reply)
    with pytest.raises(RequestError) as caught:
        await bus.command(Tell())
    assert isinstance(caught.value, kind) and str(caught.value) == "no" and caught.value.executed is executed
    assert caught.value.remote and caught.value.code == json.loads(reply[0])["error"]["code"]
    if isinstance(caught.value, Overloaded | Rejected):
        assert caught.value.retry_after == json.loads(reply[0])["error"].get("retryAfter")


@pytest.mark.parametrize(
    ("code", "kind", "executed"),
    [
        ("404", NotFound, False),
        ("500", HandlerFailed, None),
        ("x", HandlerFailed, None),
        ("408", DeadlineExceeded, None),
    ],
)
async def test_an_error_reply_of_another_framework(
    bus: Bus, foreign: Foreign, code: str, kind: type, executed: bool | None
) -> None:
    for body in (b"", b"oops", b'{"error":"text"}', b"\xff"):
        await foreign.reply_with(
            "query.ask", (body, {"Nats-Service-Error": "their text", "Nats-Service-Error-Code": code})
        )
        with pytest.raises(RequestError, match="their text") as caught:
            await bus.query(Ask())
        assert type(caught.value) is kind and caught.value.executed is executed


async def test_retry_sends_the_same_id_until_the_outcome_is_known(bus: Bus, foreign: Foreign) -> None:
    await foreign.reply_with(
        "command.tell", None, error(500, "HandlerFailed", executed=None), error(429, "Overloaded", retryAfter=0.01), error(503, "NotDelivered"), (b"{}", None)
    )  # fmt: skip
    policy = RetryPolicy(attempts=6, first=0.01)
    assert await bus.retry(Tell(), policy=policy, timeout=0.1) == Value()
    ids = {message.headers["Idempotency-Key"] for message in foreign.seen if message.headers}
    assert len(foreign.seen) == 5 and len(ids) == 1


NO, MAYBE, YES = error(503, "NotDelivered"), error(503, "NotDelivered", executed=None), (b'{"value":"x"}', None)
REFUSED, FAILED = error(409, "SoldOut"), error(500, "HandlerFailed", executed=None)


@pytest.mark.parametrize(
    ("replies", "executed"),
    [
        ((NO, NO, NO), False),
        ((NO, NO, REFUSED), False),
        ((NO, MAYBE, NO), None),
        ((MAYBE, NO, REFUSED), None),
        ((FAILED, REFUSED, REFUSED), None),
        ((YES, NO, NO), True),
        ((MAYBE, YES, NO), True),
    ],
)
async def test_the_outcome_of_a_retry_is_that_of_all_attempts(
    bus: Bus, foreign: Foreign, replies: tuple[Any, ...], executed: bool | None
) -> None:
    await foreign.reply_with("command.tell", *replies)
    with pytest.raises(RequestError) as caught:
        await bus.retry(Tell(), policy=RetryPolicy(attempts=3, first=0.001))
    assert caught.value.executed is executed


@pytest.mark.parametrize(
    ("replies", "executed"), [((NO, REFUSED), False), ((MAYBE, REFUSED), None), ((MAYBE, NO, REFUSED), None)]
)
async def test_the_outcome_of_a_nested_command_is_that_of_all_attempts(
    bus: Bus, foreign: Foreign, replies: tuple[Any, ...], executed: bool | None
) -> None:
    await foreign.reply_with("command.tell", *replies)
    call = Call(scope=CallScope("teller", bus, None, "test"))
    with pytest.raises(SoldOut) as caught:
        await bus.request(Tell(), command_id="t", timeout=5, call=call)
    assert caught.value.executed is executed and len(foreign.seen) == len(replies)


@pytest.mark.parametrize(
    "reply", [error(409, "SoldOut"), error(400, "InvalidMessage"), error(404, "NotFound"), error(508, "CallCycle")]
)
async def test_retry_does_not_repeat_a_refused_command(bus: Bus, foreign: Foreign, reply: Any) -> None:
    await foreign.reply_with("command.tell", reply)
    with pytest.raises(RequestError):
        await bus.retry(Tell())
    assert len(foreign.seen) == 1


async def test_retry_gives_up_with_the_last_error(bus: Bus, foreign: Foreign) -> None:
    await foreign.reply_with("command.tell", error(500, "HandlerFailed", executed=None))
    with pytest.raises(HandlerFailed):
        await bus.retry(Tell(), policy=RetryPolicy(attempts=3, first=0.001))
    assert len(foreign.seen) == 3


async def test_the_retry_budget_of_a_program_recovers(bus: Bus, foreign: Foreign) -> None:
    policy = RetryPolicy(attempts=3, first=0.0)
    await foreign.reply_with("command.order", (b"", None))
    await foreign.reply_with("command.tell", error(503, "NotDelivered"), error(503, "NotDelivered"), (b"{}", None))
    while bus._sender.budget.spend():
        pass
    with pytest.raises(NotDelivered):
        await bus.retry(Tell(), policy=policy)
    assert len(foreign.seen) == 1
    for _ in range(30):
        await bus.retry(Order())
    assert await bus.retry(Tell(), policy=policy) == Value()


async def test_a_retry_of_a_request_to_a_missing_service_costs_no_budget(bus: Bus, foreign: Foreign) -> None:
    while bus._sender.budget.spend():
        pass
    waiting = asyncio.ensure_future(bus.retry(Tell(), policy=RetryPolicy(attempts=99, first=0.01), timeout=0.02))
    async with asyncio.timeout(30):
        while bus._sender.retries.value < 5:
            await asyncio.sleep(0.001)
    await foreign.reply_with("command.tell", (b"{}", None))
    assert await waiting == Value()


BAD_IDS = [
    "",
    "a\nb",
    "a\rb",
    "e1\r\nce-type: other.Thing",
    "a\0",
    "a\tb",
    "\x1b]0;x",
    "\u2028",
    "\ud800",
    "x" * 257,
    "ü" * 129,
]


@pytest.mark.parametrize("message_id", BAD_IDS)
async def test_an_id_that_no_header_can_hold_is_refused(bus: Bus, message_id: str) -> None:
    for send in (
        bus.command(Tell(), id=message_id),
        bus.retry(Tell(), id=message_id),
        bus.emit(NoteWritten(1), id=message_id),
    ):
        with pytest.raises(CodecError, match="is not an id: write 1 to 256 bytes of printable text"):
            await send


async def test_query_command_and_emit_refuse_other_messages(bus: Bus) -> None:
    wrong: list[Callable[[], Awaitable[Any]]] = [
        lambda: bus.query(Tell()),  # type: ignore[arg-type]
        lambda: bus.command(Ask()),  # type: ignore[arg-type]
        lambda: bus.emit(Tell()),  # type: ignore[arg-type]
        lambda: bus.query("text"),  # type: ignore[arg-type]
    ]
    for use in wrong:
        with pytest.raises(DeclarationError):
            await use()


async def test_an_event_from_outside_its_actor_is_stored_once_under_its_id(bus: Bus, namespace: str) -> None:
    with pytest.raises(PublishError, match="no stream takes"):
        await bus.emit(NoteWritten(1))
    client = bus.connection
    config = {"name": f"{namespace}-foreign-events", "subjects": [f"{namespace}.foreign.event.>"]}
    await client.request(f"$JS.API.STREAM.CREATE.{namespace}-foreign-events", json.dumps(config).encode(), timeout=5)
    assert await bus.emit(NoteWritten(1), id="e1") == await bus.emit(NoteWritten(1), id="e1") == "e1"
    assert len(await bus.emit(NoteWritten(2))) == 36
    info = await bus._jetstream.stream_info(f"{namespace}-foreign-events")
    assert info.state.messages == 2
    stored = await bus._jetstream.get(f"{namespace}-foreign-events", 1)
    assert stored is not None and stored.subject == f"{namespace}.foreign.event.note_written._"
    assert stored.headers is not None and b"ce-subject" not in stored.headers


async def test_a_request_without_a_connection_waits_until_its_deadline(namespace: str) -> None:
    async with EmbeddedServer(port=0) as server, connect(server.url, namespace=namespace) as bus:
        server.kill()
        while bus.connection.is_connected:
            await asyncio.sleep(0.005)
        with pytest.raises(NotDelivered) as caught:
            await bus.command(Tell(), timeout=0.2)
        assert caught.value.executed is False
        waiting = asyncio.ensure_future(bus.command(Tell(), timeout=10))
        await server.start()
        with pytest.raises(NotDelivered, match="no process serves it"):
            await waiting


async def test_a_connection_that_is_lost_before_the_reply_leaves_the_outcome_unknown(namespace: str) -> None:
    async with EmbeddedServer(port=0) as server, connect(server.url, namespace=namespace) as bus:
        client = await nats.connect(server.url, allow_reconnect=False)
        foreign = Foreign(client, namespace, server.url)
        await foreign.reply_with("command.tell", None)
        waiting = asyncio.ensure_future(bus.command(Tell(), timeout=10))
        async with asyncio.timeout(30):
            while not foreign.seen:
                await asyncio.sleep(0.005)
        server.kill()
        with pytest.raises(DeadlineExceeded, match="connection was lost") as caught:
            await waiting
        assert caught.value.executed is None
        await client.close()


async def test_connect_fails_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ConnectionOptions(url="nats://127.0.0.1:1", connect_timeout=0.2)
    with pytest.raises(PublishError, match="cannot connect to NATS"):
        async with connect(options=options):
            pass


async def test_connect_reads_the_variables_of_natscli(
    nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", nats_server.url)
    async with connect() as bus:
        assert bus.connection.server_address == ("127.0.0.1", nats_server.port)


async def test_a_circuit_opens_after_failures_in_a_row_and_closes_with_a_reply(
    nats_server: EmbeddedServer, namespace: str, foreign: Foreign
) -> None:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        bus = Bus(
            connection,
            Tracing(in_memory=True).service("t"),
            namespace=namespace,
            breaker=BreakerPolicy(failures=3, min_duration=0.0, probe_interval=0.1),
        )
        with pytest.raises(CircuitOpen):
            await bus.query(Ask())  # three attempts without responders
        await foreign.reply_with("query.ask", (b'{"value":1}', None))
        await asyncio.sleep(0.12)
        assert await bus.query(Ask()) == await bus.query(Ask()) == Value(1)
