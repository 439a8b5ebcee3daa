"""`tap`: its lines, its filters and its exit codes."""

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from runtime import Event
from runtime.cli.tapping import cloud_event, line
from runtime.client.bus import Bus
from runtime.client.tapped import TappedEvent
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.storage.streams import events_config
from runtime.telemetry import Tracing
from runtime.wire.subjects import Names
from tests.support.process import run_command, run_here, running_command

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class OrderCreated(Event, actor="orders", key="order_id", rename="camel"):
    order_id: str
    total: int = 0


class Desk(NamedTuple):
    bus: Bus
    where: tuple[str, ...]
    home: Path


@pytest.fixture
async def desk(nats_server: EmbeddedServer, namespace: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        await JetStream(connection).ensure_stream(events_config(Names("orders", namespace)))
        bus = Bus(connection, Tracing(in_memory=True).service("test"), namespace=namespace)
        yield Desk(bus, ("--nats", nats_server.url, "--namespace", namespace), tmp_path)


async def test_events_are_shown_as_they_come_and_ctrl_c_ends_it(desk: Desk) -> None:
    await desk.bus.emit(OrderCreated("0", 500))
    where = '{"total": [{"numeric": [">", 100]}]}'
    async with running_command(
        "tap", "orders.event.*", "--where", where, *desk.where, cwd=desk.home, ready="waiting for events"
    ) as tap:
        first = await desk.bus.emit(OrderCreated("1", 200))
        await desk.bus.emit(OrderCreated("2", 50))
        second = await desk.bus.emit(OrderCreated("3 ä", 300))
        time, *fields = (await tap.until("300")).split("  ")
        trace = fields.pop(3)
        assert (time[-1], fields) == ("Z", ["orders.OrderCreated", "3 ä", second, '{"orderId":"3 ä","total":300}'])
        assert first in await tap.until("200")
        assert '"total":5' not in tap.text
        tap.signal(signal.SIGINT)
        assert await tap.wait() == 130
    ran = await run_command("tap", "--since", "first", "--trace", trace, "--timeout", "0.3", *desk.where, cwd=desk.home)
    assert [each.split("  ")[4] for each in ran.out.splitlines()] == [trace], ran


@pytest.fixture
async def stored(desk: Desk) -> list[str]:
    """The ids of three stored events."""
    return [await desk.bus.emit(OrderCreated(str(number), number)) for number in range(3)]


def test_stored_events_as_cloud_events(desk: Desk, stored: list[str]) -> None:
    ran = run_here("tap", "--since", "first", "--json", "--count", "3", "--timeout", "20", *desk.where, cwd=desk.home)
    found = [json.loads(each) for each in ran.out.splitlines()]
    assert (ran.code, [each["id"] for each in found]) == (0, stored)
    assert found[2].pop("traceparent").startswith("00-")
    assert found[2] | {"time": ""} == {
        "specversion": "1.0", "id": stored[2], "source": "/orders", "type": "orders.OrderCreated", "time": "", "subject": "2",
        "datacontenttype": "application/json", "data": {"orderId": "2", "total": 2},
    }  # fmt: skip


@pytest.mark.usefixtures("stored")
def test_the_end_of_the_time_is_a_failure_only_with_a_count(desk: Desk) -> None:
    arguments = ("tap", "orders.OrderCreated", "--since", "1h", "--timeout", "0.3", *desk.where)
    ran = run_here(*arguments, cwd=desk.home)
    assert (ran.code, len(ran.out.splitlines())) == (0, 3), ran
    ran = run_here(*arguments, "--count", "4", cwd=desk.home)
    assert (ran.code, ran.err.splitlines()[-1]) == (5, "Error: 3 of 4 events came within 0.3 s"), ran


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["orders"], "'orders': write a subject as orders.event.*, a type as orders.OrderCreated, or > for all events"),
        (["--where", '{"a":[{"numeric":["~",1]}]}'], "where.a"),
        (["--since", "soon"], "write 30m, 2h, 7d"),
    ],
)
def test_a_wrong_argument_is_named(desk: Desk, arguments: list[str], message: str) -> None:
    ran = run_here("tap", *arguments, *desk.where, cwd=desk.home)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err, ran


def sample(payload: bytes = b'{"a": 1}', fault: str = "", key: str | None = "7") -> TappedEvent:
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    body = None if fault else json.loads(payload)
    place = ("orders.event.order_created.7", "orders-events", 3, payload, fault)
    return TappedEvent("orders.OrderCreated", "id-of-the-event", key, "/orders", 1.5, TRACE, body, headers, *place)


def test_a_line_fits_the_terminal_and_cannot_control_it() -> None:
    assert (
        line(sample(), None)
        == f'1970-01-01T00:00:01.500Z  orders.OrderCreated  7  id-of-the-event  {TRACE}  {{"a": 1}}'
    )
    assert line(sample(), 80) == '00:00:01.500Z  orders.OrderCreated  7  id-of-th  4bf92f35  {"a": 1}'
    cut = line(sample(b'"' + b"x" * 500 + b'"'), 80)
    assert (len(cut), cut[-3:]) == (80, "xx…")
    assert "\x1b" not in line(sample(b"\x1b[2J\n\xff", "no JSON \x1b[2J", None), 200)
    assert "\n" not in line(sample(b'{\n"a":\n1}'), 200)


def test_a_cloud_event_has_all_of_its_attributes() -> None:
    extensions = {"replayname": "fill", "dataschema": "https://example.org/1"}
    found = cloud_event(msgspec.structs.replace(sample(), extensions=extensions))
    assert found.items() >= extensions.items() and found["id"] == "id-of-the-event"


def test_a_cloud_event_is_one_line_and_keeps_a_body_that_is_no_json() -> None:
    assert bytes(cloud_event(sample(b'{\n"a": 12345678901234567890123}'))["data"]) == b'{"a":12345678901234567890123}'
    broken = cloud_event(sample(b"\xff", "no JSON", None))
    assert (broken["data_base64"], broken["datacontenttype"]) == ("/w==", "application/octet-stream")
    assert "subject" not in broken and broken["traceparent"].startswith(f"00-{TRACE}")
