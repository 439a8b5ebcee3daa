"""Bursts: like log lines of one moment are one line with a count."""

import asyncio
import logging

import pytest

from runtime import Options, Overloaded
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import bursts
from runtime.telemetry.bursts import Bursts
from tests.support.counting import Add, Counter, GetCount, Wait
from tests.support.handlers import gate
from tests.support.probe import running

logger = logging.getLogger("actorloom.test")


def warnings_of(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [
        each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING and text in each.getMessage()
    ]


async def test_like_lines_are_joined_and_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    joined = Bursts()
    for number in range(1000):
        joined.log(logger, logging.WARNING, "orders", "Overloaded", f"full {number}", "requests were refused")
        joined.log(logger, logging.ERROR, "orders", "NotDelivered", f"gone {number}", "requests were refused")
    joined.log(logger, logging.WARNING, "stock", "Overloaded", "full", "requests were refused")
    assert not caplog.records
    joined.flush()
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("WARNING", "orders: 1000 requests were refused (Overloaded), the first: full 0"),
        ("ERROR", "orders: 1000 requests were refused (NotDelivered), the first: gone 0"),
        ("WARNING", "stock: full"),
    ]
    joined.log(logger, logging.WARNING, "stock", "Overloaded", "stock: full", "requests were refused")
    joined.flush()
    assert caplog.messages[3:] == ["stock: full"]
    joined.flush()
    assert len(caplog.records) == 4


async def test_a_burst_is_logged_when_it_ends_and_a_long_one_from_time_to_time(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bursts, "_LONGEST", 0.2)
    joined = Bursts()
    count = 0
    async with asyncio.timeout(20):
        while len(caplog.records) < 3:
            joined.log(logger, logging.WARNING, "orders", "Overloaded", "full", "requests were refused")
            count += 1
            await asyncio.sleep(0)
        joined.flush()
        counted = [int(each.split()[1]) if "refused" in each else 1 for each in caplog.messages]
        assert sum(counted) == count > 1000
        caplog.clear()
        joined.log(logger, logging.WARNING, "orders", "Overloaded", "full", "requests were refused")
        while not caplog.records:
            await asyncio.sleep(0)
    assert caplog.messages == ["orders: full"]


async def test_many_kinds_of_lines_take_bounded_memory(caplog: pytest.LogCaptureFixture) -> None:
    joined = Bursts()
    for number in range(1000):
        joined.log(logger, logging.WARNING, f"actor-{number}", "Overloaded", "full", "requests were refused")
    assert len(joined._waiting) == bursts._MOST
    joined.flush()
    assert len(caplog.records) == 1000


async def test_a_burst_of_refused_requests_is_one_line_with_a_count(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"counter": Options(lane=4, mailbox=100)}
    async with running(Counter, url=nats_server.url, namespace=namespace, options=options) as system:
        first = asyncio.ensure_future(system.bus.command(Wait("burst"), timeout=30))
        await system.until(lambda: system.is_resident("counter", "burst"))
        requests = [asyncio.ensure_future(system.bus.command(Add("burst", 1), timeout=30)) for _ in range(500)]
        await system.until(lambda: sum(each.done() for each in requests) >= 400)
        gate("burst").set()
        found = await asyncio.gather(*requests, return_exceptions=True)
        await first
        refused = sum(isinstance(each, Overloaded) for each in found)
        assert refused > 100
        # A request whose reply subject is no inbox is dropped.
        for _ in range(200):
            system.connection.publish(f"{namespace}.counter.query.get_count", b"{}", reply=b"orders.event.x")
        await system.until(lambda: warnings_of(caplog, "dropped"))
        with pytest.raises(Exception, match="no counter"):
            await system.bus.query(GetCount("none"))
    (line,) = warnings_of(caplog, "Overloaded")
    assert f"{namespace}.counter.command.add: {refused} requests were refused (Overloaded), the first: " in line
    (line,) = warnings_of(caplog, "dropped")
    assert f"{namespace}.counter.query.get_count: 200 requests were dropped (the reply subject is no inbox)" in line
