"""The reply table: each reply reaches its request, each deadline ends once, and no entry is left."""

import asyncio

import pytest

from runtime.errors import PublishError
from runtime.nats import requests
from runtime.nats.errors import ConnectionLost, NoResponders, PermissionDenied
from runtime.nats.requests import ReplyTable, Response


@pytest.fixture
async def table() -> ReplyTable:
    return ReplyTable(asyncio.get_running_loop(), "_INBOX")


def soon(seconds: float = 60.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_replies_find_their_requests_in_any_order(table: ReplyTable) -> None:
    expected = [table.expect(b"a", soon()) for _ in range(100)]
    assert len({reply for reply, _ in expected}) == 100
    assert all(reply.startswith(table.subject.removesuffix("*").encode()) for reply, _ in expected)
    for number, (reply, _) in reversed(list(enumerate(expected))):
        table.receive(reply, b"", b"h", b"%d" % number)
    assert [future.result() for _, future in expected] == [Response(b"h", b"%d" % n) for n in range(100)]
    assert len(table) == 0


async def test_status_503_without_a_body_means_no_responders(table: ReplyTable) -> None:
    reply, future = table.expect(b"a.b", soon())
    table.receive(reply, b"", b"NATS/1.0 503\r\n\r\n", b"")
    assert isinstance(future.exception(), NoResponders)
    assert str(future.exception()) == "no process serves a.b"
    reply, future = table.expect(b"a.b", soon())
    table.receive(reply, b"", b"NATS/1.0 503\r\n\r\n", b"a body")
    assert future.result().payload == b"a body"


async def test_unknown_repeated_and_cancelled_replies_are_dropped(table: ReplyTable) -> None:
    reply, future = table.expect(b"a", soon())
    table.receive(b"_INBOX.other", b"", None, b"")
    table.receive(b"", b"", None, b"")
    future.cancel()
    table.receive(reply, b"", None, b"1")
    table.receive(reply, b"", None, b"2")
    assert len(table) == 0


async def test_one_timer_serves_all_deadlines(table: ReplyTable) -> None:
    futures = [table.expect(b"a", soon(60))[1] for _ in range(50)]
    first = table._timer
    futures += [table.expect(b"a", soon(61))[1] for _ in range(50)]
    assert table._timer is first  # later deadlines set no timer
    early = table.expect(b"a", soon(0.01))[1]
    with pytest.raises(TimeoutError, match="no reply to a in time"):
        await early
    assert not any(future.done() for future in futures)
    assert table._timer is not None  # for the next deadline
    table.close(ConnectionLost("x"))
    assert all(isinstance(future.exception(), ConnectionLost) for future in futures)
    assert table._timer is None


async def test_the_sweep_also_removes_cancelled_requests(table: ReplyTable) -> None:
    cancelled = table.expect(b"a", soon(60))[1]
    cancelled.cancel()
    await asyncio.wait({table.expect(b"a", soon(0.0))[1]})
    assert len(table) == 0


async def test_a_refusal_fails_only_the_requests_of_its_subject(table: ReplyTable) -> None:
    refused, other = table.expect(b"Orders.A", soon())[1], table.expect(b"orders.b", soon())[1]
    table.fail(PermissionDenied("no"), "orders.a")
    assert isinstance(refused.exception(), PermissionDenied)
    assert not other.done()


async def test_requests_in_flight_are_bounded(table: ReplyTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_IN_FLIGHT", 2)
    reply, _ = table.expect(b"a", soon())
    table.expect(b"a", soon())
    with pytest.raises(PublishError, match="2 requests are in flight: a was not sent"):
        table.expect(b"a", soon())
    table.forget(reply)
    table.expect(b"a", soon())
