"""The wire contract, tested with a raw nats-py client: other languages and the `nats` CLI depend on it."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from runtime import Actor, Command, Event, Options, command
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import Tracing
from runtime.wire.buckets import bucket_of
from tests.support.calling import Gateway, Rounds
from tests.support.counting import Counter, Watcher
from tests.support.handlers import gate
from tests.support.probe import Probe, running


class Wire:
    """A raw client of the actors of one test."""

    def __init__(self, client: Client, namespace: str, system: Probe) -> None:
        self.client = client
        self.namespace = namespace
        self.system = system

    async def ask(
        self, subject: str, payload: bytes | str = b"", headers: dict[str, str] | None = None, timeout: float = 5
    ) -> Msg:
        data = payload.encode() if isinstance(payload, str) else payload
        return await self.client.request(f"{self.namespace}.{subject}", data, timeout=timeout, headers=headers)

    async def json(self, subject: str, payload: bytes | str = b"", headers: dict[str, str] | None = None) -> Any:
        reply = await self.ask(subject, payload, headers)
        assert "Nats-Service-Error" not in (reply.headers or {}), reply.data
        return json.loads(reply.data) if reply.data else None

    async def error(
        self, subject: str, payload: bytes | str = b"", headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        return error_of(await self.ask(subject, payload, headers))


def error_of(reply: Msg) -> dict[str, Any]:
    """Check the form of an error reply, and return its error object."""
    body = json.loads(reply.data)
    assert list(body) == ["error"]
    error = body["error"]
    assert (
        {"code", "kind", "message", "executed"} <= set(error) <= {"code", "kind", "message", "executed", "retryAfter"}
    )
    assert reply.headers is not None
    assert reply.headers["Nats-Service-Error-Code"] == str(error["code"])
    assert reply.headers["Nats-Service-Error"] == error["message"].encode("ascii", "replace").decode().replace(
        "\n", " "
    )
    assert reply.headers["Content-Type"] == "application/json"
    assert set(reply.headers) <= {"Nats-Service-Error", "Nats-Service-Error-Code", "Content-Type", "traceresponse"}
    assert "secret" not in str(reply.headers) and b"secret" not in reply.data
    assert b"Traceback" not in reply.data and b".py" not in reply.data
    return error


@pytest.fixture
async def wire(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Wire]:
    client = await nats.connect(nats_server.url)
    options = {"counter": Options(lane=3), "gateway": Options(concurrency=4, mailbox=5)}
    async with running(
        Counter, Watcher, Gateway, Rounds, url=nats_server.url, namespace=namespace, options=options
    ) as system:
        yield Wire(client, namespace, system)
    await client.close()


async def test_requests_of_plain_json_need_no_headers(wire: Wire) -> None:
    reply = await wire.ask("counter.command.add", '{"name":"a","by":5}')
    assert json.loads(reply.data) == {"name": "a", "value": 5}
    assert not set(reply.headers or {}) - {"traceresponse"}
    assert await wire.json("counter.query.get_count", '{"name":"a"}') == {"name": "a", "value": 5}
    assert await wire.json("counter.query.list_counts") == [{"name": "a", "value": 5}]
    assert await wire.json("counter.query.list_counts", "{}") == [{"name": "a", "value": 5}]


async def test_a_command_without_a_result_has_an_empty_reply(wire: Wire) -> None:
    assert (await wire.ask("counter.command.drop_count", '{"name":"a"}')).data == b""


async def test_an_unknown_operation_has_no_responders(wire: Wire) -> None:
    for subject in ("counter.query.get_nothing", "counter.command.get_count", "nobody.query.get_count"):
        with pytest.raises(NoRespondersError):
            await wire.ask(subject, "{}")


INVALID = [
    ('{"name":5}', "name"),
    ('{"name":"a","by":"1"}', "by"),
    ('{"name":"a","by":1.5}', "by"),
    ('{"by":1}', "name"),
    ("", "name"),
    ("not json", "malformed"),
    ('{"name":"a"', "truncated"),
    ('{"name":"a"} x', "malformed"),
    ("[]", "object"),
    ("null", "object"),
    (b'{"name":"\xff\xfe"}', "UTF-8"),
    (b"\xff", "malformed"),
    ('{"name":"\\ud800 and more"}', "malformed"),
    ('{"name":"a","by":' + "9" * 5000 + "}", "out of range"),
    ('{"name":' + "[" * 100_000, "name"),
    ('{"x":' + '{"x":' * 100_000, "too deeply"),
    ('{"name":"' + "k" * 2000 + '"}', "too long"),
]


@pytest.mark.parametrize(("payload", "text"), INVALID)
async def test_an_invalid_message_names_the_field(wire: Wire, payload: str | bytes, text: str) -> None:
    error = await wire.error("counter.command.add", payload)
    assert (error["code"], error["kind"], error["executed"]) == (400, "InvalidMessage", False)
    assert text in error["message"] and "counter.command.add" in error["message"]
    assert len(error["message"]) < 600
    if text != "by" and "by" not in str(payload):
        error = await wire.error("counter.query.get_count", payload)
        assert (error["code"], error["executed"]) == (400, False) and text in error["message"]


async def test_invalid_messages_change_nothing_in_the_service(wire: Wire) -> None:
    for payload, _ in INVALID:
        await wire.error("counter.command.add", payload)
    assert await wire.json("counter.query.list_counts") == []
    assert wire.system.is_ready("counter")


async def test_a_message_of_the_maximum_size_gets_a_reply(wire: Wire) -> None:
    limit = wire.client.max_payload
    error = await wire.error("counter.command.add", b'{"name":"' + b"k" * (limit - 11) + b'"}')
    assert error["code"] == 400
    error = await wire.error("counter.command.add", b" " * limit)
    assert error["code"] == 400


async def test_a_reply_that_is_too_large_is_an_error(wire: Wire) -> None:
    limit = wire.client.max_payload
    error = await wire.error("gateway.query.echo", b'{"value":[' + b"1e9," * (limit // 5) + b"1]}")  # 12 bytes each
    assert (error["code"], error["kind"], error["executed"]) == (500, "HandlerFailed", False)
    assert await wire.json("gateway.query.echo", '{"value":1}') == 1


class Inflate(Command[str], actor="balloon"):
    """Returns a text of `size` characters, and emits an event first if `loud`."""

    size: int
    loud: bool = False


class BalloonInflated(Event, actor="balloon"):
    pass


class Balloons(Actor):
    name = "balloon"

    @command
    async def inflate(self, message: Inflate) -> str:
        if message.loud:
            self.emit(BalloonInflated())
        return "x" * message.size


async def test_a_command_whose_reply_is_too_large_has_no_effect(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Balloons, url=nats_server.url, namespace=namespace) as system:
        for loud, code in ((False, 500), (True, 413)):  # without an id, a command that leaves nothing has no record
            body = msgspec.json.encode(Inflate(system.connection.max_payload, loud))
            reply = await system.connection.request(f"{namespace}.balloon.command.inflate", body, timeout=5)
            error = msgspec.json.decode(reply.payload)["error"]
            assert (error["code"], error["executed"]) == (code, False)
        assert await system.stored_events("balloon") == []


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("size", [37, 82, 107])
async def test_foreign_headers_of_the_same_length_as_our_own_are_read(
    nats_server: EmbeddedServer, namespace: str, size: int, traced: bool
) -> None:
    async with running(Gateway, url=nats_server.url, namespace=namespace, tracing=Tracing(in_memory=traced)) as system:
        connection, subject = system.connection, f"{namespace}.gateway.query.echo"
        deadline = b"Deadline: %d\r\n\r\n" % (time.time() * 1000 + 60_000)
        for _ in range(2):  # the second one has a deadline that is known already
            await connection.request(subject, b'{"value":1}', headers=b"NATS/1.0\r\n" + deadline, timeout=5)
        if size == 37:  # no room for a content type beside the deadline
            block, payload = b"NATS/1.0\r\n" + deadline, b'{"value":5}'
        else:
            end = b"\r\n" + (deadline if size == 107 else b"\r\n")
            start = b"NATS/1.0\r\nContent-Type: application/msgpack\r\nX: "
            block = start + b"x" * (size - len(start) - len(end)) + end
            payload = msgspec.msgpack.encode({"value": 5})
        assert len(block) == size
        reply = await connection.request(subject, payload, headers=block, timeout=5)
        assert (msgspec.json if size == 37 else msgspec.msgpack).decode(reply.payload) == 5


@pytest.mark.parametrize("content_type", ["text/xml", "application/x-protobuf", "json", "ü"])
async def test_another_content_type_is_refused(wire: Wire, content_type: str) -> None:
    error = await wire.error("counter.command.add", '{"name":"a"}', {"Content-Type": content_type})
    assert error["code"] == 400 and "is not supported: send application/json" in error["message"]


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "application/merge-patch+json"]
)
async def test_json_with_a_content_type_is_accepted(wire: Wire, content_type: str) -> None:
    assert (await wire.json("counter.command.add", '{"name":"a"}', {"content-type": content_type}))["value"] == 1


async def test_requests_and_replies_in_messagepack(wire: Wire) -> None:
    packed = {"Content-Type": "application/msgpack", "Idempotency-Key": "m1"}
    for _ in range(2):  # the second time, the reply is the stored one
        reply = await wire.ask("counter.command.add", msgspec.msgpack.encode({"name": "a", "by": 3}), packed)
        assert msgspec.msgpack.decode(reply.data) == {"name": "a", "value": 3}
        assert reply.headers is not None and reply.headers["Content-Type"] == "application/msgpack"
    reply = await wire.ask("counter.query.get_count", msgspec.msgpack.encode({"name": "none"}), packed)
    error = msgspec.msgpack.decode(reply.data)["error"]
    assert (error["code"], error["kind"]) == (404, "NotFound")
    assert reply.headers is not None and reply.headers["Content-Type"] == "application/msgpack"
    reply = await wire.ask(
        "counter.command.drop_count", msgspec.msgpack.encode({"name": "a"}), {"Content-Type": "application/msgpack"}
    )
    assert msgspec.msgpack.decode(reply.data) is None
    for body in (b"", b"\xc1", b"\x81\xa4name\x05", b"\x91" * 100_000):
        reply = await wire.ask("counter.command.add", body, {"Content-Type": "application/msgpack"})
        assert msgspec.msgpack.decode(reply.data)["error"]["code"] == 400


async def test_a_command_whose_reply_is_too_large_an_integer_for_messagepack_is_not_executed(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    packed = {"Content-Type": "application/msgpack"}
    body = msgspec.msgpack.encode({"name": "a", "by": 2**63})
    for command_id in ("one", "two", "two"):
        reply = await wire.ask("counter.command.add", body, {**packed, "Idempotency-Key": command_id})
    error = msgspec.msgpack.decode(reply.data)["error"]
    assert (error["code"], error["kind"], error["executed"]) == (500, "HandlerFailed", False)
    assert await wire.json("counter.query.get_count", '{"name":"a"}') == {"name": "a", "value": 2**63}
    assert (await wire.json("counter.command.add", json.dumps({"name": "a", "by": 2**63})))["value"] == 2**64
    reply = await wire.ask("counter.query.get_count", msgspec.msgpack.encode({"name": "a"}), packed)
    error = msgspec.msgpack.decode(reply.data)["error"]
    assert (error["code"], error["kind"], error["executed"]) == (500, "HandlerFailed", False)
    assert wire.system.is_ready("counter") and caplog.text.count("the reply does not fit application/msgpack") >= 3


async def test_json_has_integers_of_any_size(wire: Wire) -> None:
    for number in (2**64, -(2**63) - 1, 10**4299):
        assert await wire.json("gateway.query.echo", json.dumps({"value": [number]})) == [number]
        name = str(number)[:5]
        assert (await wire.json("counter.command.add", json.dumps({"name": name, "by": number})))["value"] == number
        assert (await wire.json("counter.query.get_count", json.dumps({"name": name})))["value"] == number


async def test_an_expired_deadline_is_refused_before_the_handler(wire: Wire) -> None:
    past = {"Deadline": str(int(time.time() * 1000) - 1000)}
    for subject in ("counter.command.add", "gateway.command.forward"):
        error = await wire.error(subject, '{"name":"a"}', past)
        assert (error["code"], error["kind"], error["executed"]) == (408, "DeadlineExceeded", False)
    error = await wire.error("gateway.query.echo", '{"value":1}', past)
    assert (error["code"], error["executed"]) == (408, False)
    assert await wire.json("counter.query.list_counts") == []


async def test_a_deadline_that_passes_in_the_handler_discards_the_turn(wire: Wire) -> None:
    soon = {"Deadline": str(int(time.time() * 1000) + 150)}
    asking = asyncio.ensure_future(wire.error("counter.command.wait", '{"name":"late"}', soon))
    await wire.system.until(lambda: wire.system.is_resident("counter", "late"))
    await wire.system.until(lambda: time.time() * 1000 > int(soon["Deadline"]) + 1)
    gate("late").set()
    error = await asking
    assert (error["code"], error["executed"]) == (408, False)
    assert await wire.json("counter.query.list_counts") == []


@pytest.mark.parametrize("value", ["", "soon", "-1", "9" * 30, "1e9"])
async def test_a_deadline_that_is_not_a_number_is_ignored(wire: Wire, value: str) -> None:
    assert await wire.json("counter.command.add", '{"name":"a"}', {"Deadline": value})


async def test_a_deadline_is_inherited_by_nested_calls(wire: Wire) -> None:
    at = int(time.time() * 1000) + 2500
    # The clock of the server is measured again and again, and may be known better by some milliseconds at the second hop.
    assert await wire.json("gateway.query.get_nested_deadline", "", {"Deadline": str(at)}) == pytest.approx(
        at / 1000, abs=0.1
    )
    without = await wire.json("gateway.query.get_nested_deadline")
    assert 0 < without - time.time() < 6, "the timeout of the actor itself"


@pytest.mark.parametrize("command_id", ["x" * 257, "ü" * 129, "a\tb", "\x7f"])
async def test_an_id_that_is_too_long_or_not_printable_is_refused(wire: Wire, command_id: str) -> None:
    error = await wire.error("counter.command.add", '{"name":"a"}', {"Idempotency-Key": command_id})
    assert error["code"] == 400 and "Idempotency-Key" in error["message"]


@pytest.mark.parametrize("command_id", ["x" * 256, "ü" * 128, "a b.c*>$%", "😀"])
async def test_any_printable_id_is_accepted(wire: Wire, command_id: str) -> None:
    for _ in range(2):
        assert (await wire.json("counter.command.add", '{"name":"a"}', {"Idempotency-Key": command_id}))["value"] == 1


async def test_a_request_without_a_valid_reply_subject_is_dropped(wire: Wire) -> None:
    subject = f"{wire.namespace}.counter.command.add"
    await wire.client.publish(subject, b'{"name":"a"}')
    for reply in ("$JS.API.STREAM.DELETE.x", f"{wire.namespace}.counter.command.add", "orders.event.x.1", "_R_X"):
        await wire.client.publish(subject, b'{"name":"a"}', reply=reply)
    assert await wire.json("counter.query.list_counts") == []
    stats = await endpoint_stats(wire, "counter", "add")
    assert stats["num_errors"] == 5 and "inbox" in stats["last_error"]


@pytest.mark.parametrize("how", ["raise", "timeout", "cancel", "nested"])
async def test_the_error_of_a_failing_handler_reveals_no_details(
    wire: Wire, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = await wire.error("counter.command.fail", json.dumps({"name": "a", "how": how}))
    assert (error["code"], error["kind"], error["executed"]) == (500, "HandlerFailed", None)
    assert error["message"].endswith("counter.command.fail: the handler failed")
    assert await wire.json("counter.query.list_counts") == []
    await wire.system.until(lambda: [record for record in caplog.records if record.levelno >= 30])  # it has the details
    assert await wire.json("counter.command.add", '{"name":"a"}') == {"name": "a", "value": 1}


@pytest.mark.parametrize("how", ["fail", "timeout", "cancel"])
async def test_the_error_of_a_failing_query_reveals_no_details(wire: Wire, how: str) -> None:
    for _ in range(8):  # more requests than workers
        error = await wire.error("gateway.query.echo", json.dumps({"value": how}))
        assert (error["code"], error["kind"]) == (500, "HandlerFailed")
    assert await wire.json("gateway.query.echo", '{"value":1}') == 1


async def test_a_refusal_reaches_the_caller_with_its_text(wire: Wire) -> None:
    error = await wire.error("counter.command.add", '{"name":"a","by":0}')
    assert error == {"code": 409, "kind": "TooLow", "message": "add at least one", "executed": False}
    error = await wire.error("counter.query.get_count", '{"name":"\\u00fc\\nx"}')
    assert error == {"code": 404, "kind": "NotFound", "message": "no counter ü\nx", "executed": False}


async def test_the_headers_of_a_request_are_not_in_the_reply_or_the_event(wire: Wire) -> None:
    headers = {
        "Authorization": "secret-1",
        "X-Anything": "secret-2",
        "Idempotency-Key": "i1",
        "baggage": "user=secret-3",
    }
    reply = await wire.ask("counter.command.add", '{"name":"a"}', headers)
    assert set(reply.headers or {}) <= {"traceresponse"}
    error_of(await wire.ask("counter.command.add", '{"name":"a","by":0}', {**headers, "Idempotency-Key": "i2"}))
    event = await wire.client.jetstream().get_last_msg(
        f"{wire.namespace}-counter-events", f"{wire.namespace}.counter.event.added.44.a"
    )
    assert event.headers is not None and not {"Authorization", "X-Anything", "Idempotency-Key"} & set(event.headers)


async def test_the_trace_continues_and_is_returned(wire: Wire) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    for name in ("traceparent", "Traceparent", "TRACEPARENT"):
        reply = await wire.ask("counter.query.list_counts", "", {name: f"00-{trace}-b7ad6b7169203331-01"})
        assert reply.headers is not None and re.fullmatch(
            rf"00-{trace}-[0-9a-f]{{16}}-01", reply.headers["traceresponse"]
        )
    reply = await wire.ask("counter.query.list_counts")
    assert reply.headers is not None and re.fullmatch(
        r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", reply.headers["traceresponse"]
    )
    for junk in ("", "00-zz-1-1", "x" * 500, "00-" + "0" * 32 + "-b7ad6b7169203331-01"):
        assert await wire.json("counter.query.list_counts", "", {"traceparent": junk}) == []


async def test_a_reply_without_tracing_has_no_headers(nats_server: EmbeddedServer, namespace: str) -> None:
    client = await nats.connect(nats_server.url)
    async with running(Gateway, url=nats_server.url, namespace=namespace, tracing=Tracing()):
        reply = await client.request(f"{namespace}.gateway.query.echo", b'{"value":1}')
        assert reply.headers is None and reply.data == b"1"
    await client.close()


async def test_an_event_is_a_cloud_event(wire: Wire) -> None:
    await wire.json(
        "counter.command.add", '{"name":"a b\\u00fc.\\"%","by":2}', {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
    )
    context = wire.client.jetstream()
    stream = f"{wire.namespace}-counter-events"

    async def stored() -> bool:
        return bool((await context.stream_info(stream)).state.messages)

    await wire.system.until(stored)
    event = await context.get_msg(stream, 1)
    token = "a%20b%C3%BC%2E%22%25"
    assert event.subject == f"{wire.namespace}.counter.event.added.{bucket_of(token)}.{token}"
    assert event.data is not None and json.loads(event.data) == {"name": 'a bü."%', "by": 2}
    headers = dict(event.headers or {})
    assert headers.pop("traceparent").startswith(f"00-{'1' * 32}-")
    event_id, moment = headers.pop("ce-id"), headers.pop("ce-time")
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", event_id)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", moment)
    assert headers == {
        "Nats-Msg-Id": event_id,
        "ce-specversion": "1.0",
        "ce-source": "/counter",
        "ce-type": "counter.Added",
        "ce-subject": "a%20b%C3%BC.%22%25",
        "ce-datacontenttype": "application/json",
    }


async def endpoint_stats(wire: Wire, service: str, endpoint: str) -> dict[str, Any]:
    inbox = wire.client.new_inbox()
    replies = await wire.client.subscribe(inbox)
    await wire.client.publish(f"$SRV.STATS.{service}", reply=inbox)
    async with asyncio.timeout(30):
        while True:  # other tests may run services of this name
            stats = json.loads((await replies.next_msg(timeout=5)).data)
            if stats["metadata"].get("namespace") == wire.namespace:
                break
    await replies.unsubscribe()
    return next(each for each in stats["endpoints"] if each["name"] == endpoint)


async def test_discovery_counts_requests_and_errors(wire: Wire) -> None:
    for body in ('{"name":"a"}', '{"name":"a"}', '{"name":5}', '{"name":"a","by":0}'):
        await wire.ask("counter.command.add", body)
    stats = await endpoint_stats(wire, "counter", "add")
    assert (stats["num_requests"], stats["num_errors"], stats["last_error"]) == (4, 2, "add at least one")
    assert stats["subject"] == f"{wire.namespace}.counter.command.add" and stats["queue_group"] == "q"
    assert stats["processing_time"] > 0 and stats["average_processing_time"] == stats["processing_time"] // 4


async def test_a_call_cycle_names_its_path(wire: Wire) -> None:
    reply = await wire.json("rounds.command.call_gateway", '{"name":"x y"}')
    assert "rounds/x%20y > gateway > rounds/x%20y" in reply and "508" not in reply
    error = await wire.error("rounds.command.call_gateway", '{"name":""}', {"Call-Chain": ",".join(["a/b"] * 40)})
    assert (error["code"], error["kind"], error["executed"]) == (508, "CallCycle", False) and "a/b > a/b" in error[
        "message"
    ]


async def test_a_call_cycle_over_the_empty_key_is_found(wire: Wire) -> None:
    assert "comes back to a key" in await wire.json("rounds.command.call_gateway", '{"name":""}')


async def test_a_chain_of_forty_queries_is_refused_as_a_cycle(wire: Wire) -> None:
    error = await wire.error("gateway.query.echo", "", {"Call-Chain": ",".join(["gateway"] * 40)})
    assert error["code"] == 508


async def test_a_full_lane_refuses_a_command_at_once(wire: Wire) -> None:
    blocked = asyncio.ensure_future(wire.json("counter.command.wait", '{"name":"full"}'))
    await wire.system.until(lambda: wire.system.is_resident("counter", "full"))
    waiting = [asyncio.ensure_future(wire.json("counter.command.add", '{"name":"full"}')) for _ in range(3)]
    await wire.system.until(lambda: wire.system.waiting("counter", "full") == 3)
    error = await wire.error("counter.command.add", '{"name":"full"}')
    assert (error["code"], error["kind"], error["executed"]) == (429, "Overloaded", False)
    assert error["retryAfter"] > 0 and "full" in error["message"]
    assert await wire.json("counter.command.add", '{"name":"other"}'), "other keys are served"
    gate("full").set()
    assert await blocked == 1
    assert sorted([(await each)["value"] for each in waiting]) == [2, 3, 4]


async def test_a_full_mailbox_refuses_a_query_at_once(wire: Wire) -> None:
    body = '{"value":"gate mailbox"}'
    asking: list[asyncio.Future[Any]] = []
    for count, waiting in ((4, 0), (5, 5)):  # four run, five wait
        asking += [asyncio.ensure_future(wire.json("gateway.query.echo", body)) for _ in range(count)]
        await wire.system.until(lambda waiting=waiting: wire.system.waiting_queries("gateway") == waiting)
    error = await wire.error("gateway.query.echo", body)
    assert (error["code"], error["kind"], error["executed"]) == (429, "Overloaded", False) and error["retryAfter"] > 0
    gate("gate mailbox").set()
    assert await asyncio.gather(*asking) == ["gate mailbox"] * 9


async def test_a_query_beside_a_running_command_reads_the_committed_state(wire: Wire) -> None:
    await wire.json("counter.command.add", '{"name":"beside","by":7}')
    waiting = asyncio.ensure_future(wire.json("counter.command.wait", '{"name":"beside"}'))
    await wire.system.until(lambda: wire.system.is_running("counter", "beside"))
    assert (await wire.json("counter.query.get_count", '{"name":"beside"}'))["value"] == 7
    gate("beside").set()
    assert await waiting == 8
    assert (await wire.json("counter.query.get_count", '{"name":"beside"}'))["value"] == 8
