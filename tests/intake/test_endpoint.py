"""Endpoints: the spans of a request, from the caller's span to the span of the commit."""

import asyncio
import json
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from runtime import HandlerFailed, InvalidMessage, NotDelivered
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import SpanRecord
from runtime.wire import header_block
from tests.support.calling import Echo, Forward, Gateway
from tests.support.counting import Add, Counter, GetCount, TooLow, Wait
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.probe import Probe, running


@pytest.mark.parametrize("separator", [b"\n", b"\r", b"\n\n"])
async def test_a_line_break_within_a_header_smuggles_no_other_header(
    nats_server: EmbeddedServer, namespace: str, separator: bytes
) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:

        async def add(name: bytes, value: bytes) -> Any:
            block = header_block.join(header_block.line(name, value))
            body = b'{"name":"smuggled"}'
            reply = await system.connection.request(f"{namespace}.counter.command.add", body, headers=block, timeout=5)
            return json.loads(reply.payload)

        for header in (b"X-Note", b"tracestate", b"baggage", b"Content-Type-Note"):
            await add(header, b"a=1" + separator + b"Idempotency-Key: smuggled")
        assert not system.has_in_record("counter", "smuggled", "smuggled")
        assert (await add(b"X-Note", b"last"))["value"] == 5
        for header in (b"Call-Chain", b"Idempotency-Key"):
            error = (await add(header, b"orders/1" + separator + b"Deadline: 1"))["error"]
            assert (error["code"], error["kind"], error["executed"]) == (400, "InvalidMessage", False)
            assert header.decode() in error["message"]


async def spans(system: Probe, name: str, kind: SpanKind, count: int = 1) -> list[SpanRecord]:
    """Return the ended spans of that name and kind, once there are `count`."""

    def found() -> list[SpanRecord] | None:
        ended = [span for span in system.tracing.finished() if span.name == name and span.kind is kind]
        return ended if len(ended) >= count else None

    return await system.until(found, timeout=5)


def event(span: SpanRecord, name: str) -> Any:
    return next((attributes for _, found, attributes in span.events if found == name), None)


async def test_one_request_is_one_trace_down_to_the_commit(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, Gateway, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Forward("a", 1))
        [publish] = await spans(system, f"publish {namespace}.counter.event.added.{{key}}", SpanKind.PRODUCER)
        trace = {(span.name, span.kind): span for span in system.trace_of(publish.trace_id)}
        chain = [
            ("gateway/forward", SpanKind.CLIENT, "test"),
            ("gateway/forward", SpanKind.SERVER, "gateway"),
            ("counter/add", SpanKind.CLIENT, "gateway"),
            ("counter/add", SpanKind.SERVER, "counter"),
            ("commit counter", SpanKind.INTERNAL, "counter"),
        ]
        parent: SpanRecord | None = None
        for name, kind, service in chain:
            span = trace[name, kind]
            assert span.service == service and span.parent_id == (parent.span_id if parent else None)
            parent = span
        server = trace["counter/add", SpanKind.SERVER]
        assert server.attributes["rpc.system.name"] == "nats" and server.attributes["rpc.method"] == "counter/add"
        assert server.status == "UNSET" and publish.start >= server.start


@pytest.mark.parametrize(
    ("message", "error", "code", "kind", "status"),
    [
        (Add("a", 0), TooLow, "409", "TooLow", "UNSET"),
        (Echo("fail"), HandlerFailed, "500", "RuntimeError", "ERROR"),
        (Forward("a", 0), HandlerFailed, "500", "TooLow", "ERROR"),
    ],
)
async def test_errors_are_recorded_by_the_semantic_conventions(
    nats_server: EmbeddedServer, namespace: str, message: Any, error: type[Exception], code: str, kind: str, status: str
) -> None:
    async with running(Counter, Gateway, url=nats_server.url, namespace=namespace) as system:
        with pytest.raises(error):
            await (system.bus.query(message) if isinstance(message, Echo) else system.bus.command(message))
        contract = type(message).__contract__
        [server] = await spans(system, f"{contract.actor}/{contract.name}", SpanKind.SERVER)
        [client] = await spans(system, f"{contract.actor}/{contract.name}", SpanKind.CLIENT)
        assert (
            str(server.attributes["rpc.response.status_code"])
            == str(client.attributes["rpc.response.status_code"])
            == code
        )
        assert server.attributes["error.type"] == code and client.attributes["error.type"] == code
        assert server.attributes["actorloom.error.kind"] == kind and server.status == status
        assert (event(server, "exception") is not None) == (kind == "RuntimeError")


async def test_a_refused_message_and_a_missing_actor_have_spans(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        with pytest.raises(InvalidMessage):
            await system.bus.query(GetCount("k" * 2000))
        with pytest.raises(NotDelivered):
            await system.bus.query(Echo(1))
        [server] = await spans(system, "counter/get_count", SpanKind.SERVER)
        attempts = await spans(system, "gateway/echo", SpanKind.CLIENT)
        assert (server.attributes["error.type"], server.attributes["actorloom.error.kind"]) == ("400", "InvalidMessage")
        assert len(attempts) > 1 and {span.attributes["error.type"] for span in attempts} == {"503"}


async def test_a_wait_in_the_lane_and_a_repeated_command_are_events_of_the_span(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        first = asyncio.ensure_future(system.bus.command(Wait("seen"), id="w1"))
        await system.until(lambda: RUN_COUNTS["wait seen"])
        second = asyncio.ensure_future(system.bus.command(Add("seen")))
        await system.until(lambda: system.waiting("counter", "seen") == 1)
        gate("seen").set()
        assert (await first, (await second).value) == (1, 2)
        assert await system.bus.command(Wait("seen"), id="w1") == 1
        [waited] = await spans(system, "counter/add", SpanKind.SERVER)
        repeated = (await spans(system, "counter/wait", SpanKind.SERVER, 2))[-1]
        assert event(waited, "lane.wait") is not None and event(repeated, "turn.repeated") == {
            "actorloom.message.id": "w1"
        }
