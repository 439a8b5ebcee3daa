"""The untyped client: names and bytes in, bytes out, and errors of the service as part of the reply."""

import json
import re
from collections.abc import AsyncIterator

import pytest

from runtime import (
    CodecError,
    ConfigurationError,
    DeadlineExceeded,
    NotDelivered,
    NotFound,
    PublishError,
    Rejected,
    connect,
)
from runtime.client.raw import RawClient, RawReply
from runtime.nats.errors import NoResponders
from runtime.nats.options import ConnectionOptions
from runtime.nats.server import EmbeddedServer
from runtime.testing import System, running
from runtime.wire import header_block
from tests.support.calling import Gateway
from tests.support.counting import Counter, GetSeen, Watcher

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[System]:
    async with running(Counter, Watcher, Gateway, url=nats_server.url, namespace=namespace) as system:
        yield system


@pytest.fixture
async def client(system: System, namespace: str) -> RawClient:
    return RawClient(system.connection, namespace=namespace, timeout=2)


async def test_requests_and_replies_are_bytes(client: RawClient) -> None:
    reply = await client.command("counter", "Add", b'{"name":"a","by":2}')
    assert (json.loads(reply.payload), reply.error) == ({"name": "a", "value": 2}, None)
    for name in ("get_count", "GetCount"):
        assert json.loads((await client.query("counter", name, b'{"name":"a"}')).payload)["value"] == 2
    assert json.loads((await client.query("counter", "list_counts")).payload) == [{"name": "a", "value": 2}]
    assert (await client.command("counter", "drop_count", b'{"name":"a"}')).payload == b""


async def test_a_command_takes_effect_once_under_its_id(client: RawClient) -> None:
    for command_id, value in (("one", 1), ("one", 1), (None, 2), (None, 3)):
        reply = await client.command("counter", "add", b'{"name":"a"}', id=command_id)
        assert json.loads(reply.payload)["value"] == value


async def test_the_error_of_a_service_is_part_of_the_reply(client: RawClient) -> None:
    missing = (await client.query("counter", "get_count", b'{"name":"none"}')).error
    assert isinstance(missing, NotFound)
    assert (missing.code, missing.executed, str(missing)) == (404, False, "no counter none")
    refused = (await client.command("counter", "add", b'{"name":"a","by":0}')).error
    assert isinstance(refused, Rejected)
    assert refused.kind == "TooLow"


async def test_headers_go_with_the_request_and_the_trace_comes_back(client: RawClient, system: System) -> None:
    traceparent = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")
    reply = await client.query("counter", "list_counts", headers=[traceparent])
    assert reply.trace_id == TRACE
    assert [span.name for span in system.trace_of(TRACE)] == ["counter/list_counts"]
    untraced = await client.query("counter", "list_counts")
    assert re.fullmatch("[0-9a-f]{32}", untraced.trace_id or "")
    with pytest.raises(CodecError):
        await client.query("counter", "list_counts", headers=[("a", "b\r\nDeadline: 1")])


async def test_the_deadline_is_that_of_the_client(client: RawClient, system: System) -> None:
    seen = json.loads((await client.query("gateway", "get_deadline")).payload)
    lifted = RawClient(system.connection, namespace=client.namespace, timeout=60)
    assert 50 < json.loads((await lifted.query("gateway", "get_deadline")).payload) - seen < 60


async def test_a_request_to_a_missing_service_is_not_delivered(client: RawClient) -> None:
    with pytest.raises(NotDelivered) as caught:
        await client.query("counter", "get_nothing")
    assert caught.value.executed is False
    assert isinstance(caught.value.__cause__, NoResponders)


async def test_a_request_without_a_reply_has_an_unknown_outcome(system: System, namespace: str) -> None:
    client = RawClient(system.connection, namespace=namespace, timeout=0.1)
    silent = await system.connection.subscribe(client.subject("command", "silent", "nap"), lambda *_: None)
    await system.connection.flush()
    with pytest.raises(DeadlineExceeded, match=r"silent\.command\.nap: no reply in time") as caught:
        await client.command("silent", "nap")
    assert caught.value.executed is None
    silent.unsubscribe()


async def test_an_event_is_stored_once_under_its_id_and_handled(client: RawClient, system: System) -> None:
    event = b'{"name":"a","by":3}'
    first = await client.emit("counter", "Added", event, key="a", id="one")
    again = await client.emit("counter", "Added", event, key="a", id="one")
    assert (first.stream, first.sequence, first.duplicate) == (f"{client.namespace}-counter-events", 1, False)
    assert (again.sequence, again.duplicate) == (1, True)

    async def is_handled() -> bool:
        return (await system.bus.query(GetSeen("a"))).total == 3

    await system.until(is_handled)


async def test_an_event_of_a_service_that_never_ran_is_not_stored(client: RawClient) -> None:
    with pytest.raises(PublishError) as caught:
        await client.emit("elsewhere", "Happened", b"{}")
    assert isinstance(caught.value.__cause__, NoResponders)


NAMES = ["", "a b", "orders.x", "x.>", "*", "Add\r\nx: y", "Ä", "1st", "_", "a\0"]


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_that_is_no_token_of_a_subject_is_refused(client: RawClient, name: str) -> None:
    requests = [
        client.query(name, "get_count"),
        client.query("counter", name),
        client.command(name, "add"),
        client.command("counter", name),
        client.emit(name, "Added", b"{}"),
        client.emit("counter", name, b"{}"),
    ]
    for request in requests:
        with pytest.raises(CodecError, match="is not the name of a service, query, command or event"):
            await request


async def test_an_id_or_header_that_no_line_can_hold_is_refused(client: RawClient) -> None:
    for bad in ("a\nb", "a\r\nce-type: x", "", "a\0", "x" * 257):
        for request in (client.command("counter", "add", id=bad), client.emit("counter", "Added", b"{}", id=bad)):
            with pytest.raises(CodecError, match="is not an id"):
                await request
    for name, value in (("x", "a\nIdempotency-Key: b"), ("x y", "a"), ("x:", "a"), ("x", "a\rb"), ("x", "a\0")):
        with pytest.raises(CodecError, match="cannot be part of a header line"):
            await client.query("counter", "list_counts", headers=[(name, value)])


@pytest.mark.parametrize("text", ["a b", "a.b", "*", ">", "a\r\nPUB x 0", "ä", " "])
async def test_a_namespace_that_is_no_token_is_refused(client: RawClient, text: str) -> None:
    with pytest.raises(ConfigurationError, match="namespace = "):
        RawClient(client.connection, namespace=text)
    with pytest.raises(ConfigurationError, match="namespace = "):
        async with connect(client.connection.options.url, namespace=text):
            pass


@pytest.mark.parametrize("prefix", ["", "a b", "a..b", ".a", "a.", "a.*", ">", "a\r\nSUB > 1", "ä"])
def test_an_inbox_prefix_that_is_no_subject_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="inbox_prefix = "):
        ConnectionOptions(inbox_prefix=prefix)
    assert ConnectionOptions(inbox_prefix="_INBOX.my-app_1").inbox_prefix == "_INBOX.my-app_1"


@pytest.mark.parametrize(
    "value",
    [
        "00-../../x-b7ad6b7169203331-01",
        f"00-{TRACE} -b7ad6b7169203331-01",
        "a-b-c-d",
        f"00-{TRACE.upper()}-b7ad6b7169203331-01",
    ],
)
def test_a_trace_id_that_is_none_is_not_taken_from_a_reply(value: str) -> None:
    assert RawReply(b"", header_block.encode([("traceresponse", value)])).trace_id is None
    good = header_block.encode([("traceresponse", f"00-{TRACE}-b7ad6b7169203331-01")])
    assert RawReply(b"", good).trace_id == TRACE
