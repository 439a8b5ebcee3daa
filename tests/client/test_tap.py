"""The tap: events of many actors, in the order of each stream, each once, and with a report where some may be missing."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from runtime import Actor, DeclarationError, Event, Query, query
from runtime.admin.archives import event_time
from runtime.client.bus import Bus
from runtime.client.tap import Tap
from runtime.client.tapped import TappedEvent
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.errors import PermissionDenied
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.storage.streams import events_config
from runtime.telemetry import Tracing, attached
from runtime.testing import running
from runtime.wire import header_block
from runtime.wire.subjects import Names
from tests.client.test_events import PERMISSIONS

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Noted(Event, actor="notes", key="name"):
    name: str
    number: int = 0


class Ticked(Event, actor="notes"):
    number: int = 0


class Signaled(Event, actor="bells"):
    number: int = 0


class Listen(Query[str], actor="notes"):
    pass


BUSES: list[Bus] = []


class Notes(Actor[None]):
    name = "notes"

    @query
    async def listen(self, message: Listen) -> str:
        try:
            BUSES[0].tap()
        except DeclarationError as error:
            return str(error)
        return "tapped"


@pytest.fixture
async def connection(nats_server: EmbeddedServer) -> AsyncIterator[Connection]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        yield connection


@pytest.fixture
async def bus(connection: Connection, namespace: str) -> Bus:
    """A bus in a namespace with the events stream of `notes`."""
    bus = Bus(connection, Tracing(in_memory=True).service("test"), namespace=namespace)
    await add_stream(bus, "notes")
    return bus


async def add_stream(bus: Bus, actor: str) -> None:
    await JetStream(bus.connection).ensure_stream(events_config(Names(actor, bus.namespace)))


async def take(tap: Tap, count: int) -> list[TappedEvent]:
    async with asyncio.timeout(20):
        return [await anext(tap) for _ in range(count)]


async def numbers(tap: Tap, count: int) -> list[int]:
    return [event.body["number"] for event in await take(tap, count)]


async def consumers(bus: Bus, actor: str = "notes") -> int:
    return len(await JetStream(bus.connection).consumers(Names(actor, bus.namespace).events_stream))


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_an_event_has_its_attributes_and_its_body(bus: Bus) -> None:
    span = Tracing(in_memory=True).service("caller").template("call").start()
    async with bus.tap() as tap:
        with attached(span):
            first = await bus.emit(Noted("ä b", 1))
        await bus.emit(Ticked(2))
        noted, ticked = await take(tap, 2)
    assert (noted.type, noted.id, noted.key, noted.source) == ("notes.Noted", first, "ä b", "/notes")
    assert (noted.body, json.loads(noted.payload), noted.fault) == ({"name": "ä b", "number": 1}, noted.body, "")
    assert noted.subject == f"{bus.namespace}.notes.event.noted.%C3%A4%20b"
    assert (noted.stream, noted.sequence) == (f"{bus.namespace}-notes-events", 1)
    assert noted.headers["ce-type"] == "notes.Noted" and noted.trace == noted.headers["traceparent"][3:35] != ""
    assert abs(noted.time - bus.connection.clock.now()) < 30
    assert (ticked.type, ticked.key) == ("notes.Ticked", None)


async def test_stored_events_of_several_streams_come_in_the_order_of_their_times(bus: Bus) -> None:
    for actor in ("bells", "silent"):
        await add_stream(bus, actor)
    for number in range(0, 400, 2):
        await bus.emit(Noted("a", number))
        await bus.emit(Signaled(number + 1))
    for number in range(400, 500):
        await bus.emit(Signaled(number))
    for number in range(500, 600):
        await bus.emit(Ticked(number))
    async with bus.tap(since="first") as tap:
        assert await numbers(tap, 600) == list(range(600))
        await bus.emit(Signaled(600))  # no stream is waited for any more
        assert await numbers(tap, 1) == [600]
    async with bus.tap(
        "*.event.noted", "*.event.signaled", since="first", where={"number": [{"numeric": [">", 300]}]}
    ) as tap:
        assert await numbers(tap, 200) == [*range(301, 500), 600]


async def test_subjects_pattern_and_trace_choose(bus: Bus, connection: Connection) -> None:
    await add_stream(bus, "bells")
    for number in range(6):
        await bus.emit(Noted("a" if number % 2 else "b", number))
        await bus.emit(Ticked(10 + number))
        await bus.emit(Signaled(20 + number))
    block = header_block.encode([("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")])
    await JetStream(connection).publish(f"{bus.namespace}.bells.event.signaled._", b'{"number":99}', headers=block)
    cases: list[tuple[tuple[Any, ...], dict[str, Any], set[int]]] = [
        ((), {}, {*range(6), *range(10, 16), *range(20, 26), 99}),
        (("notes.event.*",), {}, {*range(6), *range(10, 16)}),
        (("*.event.noted.a", Signaled), {}, {1, 3, 5, *range(20, 26), 99}),
        # Filters that overlap, which the server refuses.
        (("*.*.*.a", "notes.event.noted", "notes.Ticked"), {}, {*range(6), *range(10, 16)}),
        (("*.*.noted.a", "*.event.*.b"), {}, set(range(6))),
        ((), {"where": {"number": [{"numeric": [">", 13]}]}}, {14, 15, *range(20, 26), 99}),
        ((), {"where": '{"number": [3, 23], "name": [{"exists": true}]}'}, {3}),
        ((), {"trace": TRACE}, {99}),
    ]
    for subjects, options, expected in cases:
        async with bus.tap(*subjects, since="first", **options) as tap:
            found = await numbers(tap, len(expected))
            assert set(found) == expected, (subjects, options)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(tap)


async def test_a_stream_that_appears_is_read_from_its_beginning(bus: Bus) -> None:
    await bus.emit(Ticked(1))
    async with bus.tap() as tap, bus.tap("bells.event.*") as named:
        await bus.emit(Ticked(2))
        await add_stream(bus, "bells")
        await bus.emit(Signaled(3))
        assert await numbers(tap, 2) == [2, 3]
        assert await numbers(named, 1) == [3]
    async with bus.tap(since="first") as tap:
        assert sorted(await numbers(tap, 3)) == [1, 2, 3]


async def test_a_slow_reader_and_a_cancelled_one_lose_nothing(bus: Bus) -> None:
    async with bus.tap("notes.event.*") as tap:
        for number in range(300):
            await bus.emit(Ticked(number))
        seen = await numbers(tap, 10)
        while len(seen) < 300:
            waiting = asyncio.create_task(anext(tap))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting})
            if not waiting.cancelled():
                seen.append(waiting.result().body["number"])
            seen += await numbers(tap, 1)
        assert seen == list(range(300))


async def test_events_that_were_removed_before_they_were_read_are_reported(
    bus: Bus, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.client.tap._LOOK", 0.05)
    reports: list[str] = []
    jetstream, stream = JetStream(connection), Names("notes", bus.namespace).events_stream
    async with bus.tap(report=reports.append) as tap:
        for number in range(400):
            await bus.emit(Ticked(number))
        assert await numbers(tap, 1) == [0]
        info = await jetstream.stream_info(stream)
        await jetstream.purge(stream, f"{bus.namespace}.notes.event.>", info.state.last_seq - 100)
        await bus.emit(Ticked(400))
        seen = [0, *await numbers(tap, 1)]
        while seen[-1] != 400:
            seen += await numbers(tap, 1)
        missing = sorted({*range(401)} - {*seen})
        assert missing and missing == [*range(missing[0], 300)]
        await until(lambda: _true(reports))
        assert reports == [
            f"stream {stream} has removed its events {missing[0] + 1} to 300 before they were read: some may be missing"
        ]
        # What was read may be removed, and so may what comes after a purge of all.
        await jetstream.purge(stream, f"{bus.namespace}.notes.event.>", 401)
        await bus.emit(Ticked(401))
        assert await numbers(tap, 1) == [401]
        place = tap._streams._places[stream]
        await until(lambda: _true(place._end == 402))
        assert len(reports) == 1


async def _true(value: object) -> bool:
    return bool(value)


async def test_a_server_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path, sync_always=True) as server:
        async with await Connection.connect(ConnectionOptions(url=server.url)) as connection:
            bus = Bus(connection, Tracing(in_memory=True).service("test"))
            for actor in ("notes", "bells"):
                await add_stream(bus, actor)
            async with bus.tap() as tap:
                seen = list[int]()
                for start in (0, 100):
                    for number in range(start, start + 100):
                        await bus.emit(Ticked(number))
                        await bus.emit(Signaled(1000 + number))
                    seen += await numbers(tap, 20)
                    server.kill()
                    await server.start()
                    await connection.wait_connected(10)
                seen += await numbers(tap, 400 - len(seen))
                assert [number for number in seen if number < 1000] == list(range(200))
                assert [number for number in seen if number >= 1000] == list(range(1000, 1200))


async def break_off(bus: Bus) -> None:
    async for _ in bus.tap(since="first"):
        break


async def cancel(bus: Bus) -> None:
    async def follow() -> None:
        async for _ in bus.tap(since="first"):
            reached.set()

    reached = asyncio.Event()
    task = asyncio.create_task(follow())
    await reached.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def close(bus: Bus) -> None:
    tap = bus.tap(since="first")
    await take(tap, 1)
    waiting = asyncio.create_task(take(tap, 100))
    await until(lambda: _true(tap._streams._events.empty()))
    await tap.aclose()
    await tap.aclose()
    for ended in (anext(tap), waiting):
        with pytest.raises((StopAsyncIteration, RuntimeError)):
            await ended


@pytest.mark.parametrize("end", [break_off, cancel, close])
async def test_the_end_deletes_the_consumers(bus: Bus, end: Callable[[Bus], Awaitable[None]]) -> None:
    await bus.emit(Ticked(1))
    kept = bus.tap(since="first")
    assert await numbers(kept, 1) == [1]
    await end(bus)
    await until(lambda: _has(bus, 1))
    await kept.aclose()
    await until(lambda: _has(bus, 0))


async def _has(bus: Bus, count: int) -> bool:
    return await consumers(bus) == count


async def test_an_event_that_cannot_be_read_is_shown_with_the_reason(bus: Bus, connection: Connection) -> None:
    jetstream, subject = JetStream(connection), f"{bus.namespace}.notes.event.noted.a"
    structured = header_block.encode([("Content-Type", "application/cloudevents+json")])
    event = {
        "specversion": "1.0", "id": "7", "source": "/x", "type": "other.Noted", "time": "2026-01-01T00:00:00Z",
        "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "data": {"number": 7}, "replayname": "fill", "hops": 2,
    }  # fmt: skip
    for body, block in (
        (b"\xff", None), (b"{}", structured), (json.dumps(event).encode(), structured),
        (json.dumps(event).encode().replace(b"fill", b"\xff"), structured),
        (b"[1]", header_block.encode([("ce-replayname", "a%20b"), ("CE-DataSchema", "x:y"), ("ce-type", "notes.Noted")])),
    ):  # fmt: skip
        await jetstream.publish(subject, body, headers=block)
    async with bus.tap(since="first") as tap:
        bytes_, broken, whole, unreadable, bare = await take(tap, 5)
    assert (bytes_.body, bytes_.payload, bytes_.type, bytes_.id) == (
        None, b"\xff", "notes.noted", f"{bus.namespace}-notes-events:1",
    )  # fmt: skip
    assert bytes_.fault and "is not an event in JSON" in broken.fault
    assert (whole.type, whole.id, whole.source, whole.time) == ("other.Noted", "7", "/x", 1767225600.0)
    assert (whole.body, whole.trace, whole.fault) == ({"number": 7}, TRACE, "")
    assert (whole.extensions, broken.extensions) == ({"replayname": "fill", "hops": "2"}, {})
    assert (unreadable.body, unreadable.extensions) == ({"number": 7}, {})
    assert (bare.body, bare.fault, bare.trace) == ([1], "", "")
    assert bare.extensions == {"replayname": "a b", "dataschema": "x:y"}
    async with bus.tap(since="first", where={"number": [7]}) as tap:
        assert (await take(tap, 1))[0].id == "7"


@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2020-01-01T00:00:00"])
async def test_the_time_of_an_event_is_that_of_the_server_if_its_own_is_none(
    bus: Bus, connection: Connection, time: str, mode: str
) -> None:
    block, body = [("ce-time", time)], b"{}"
    if mode == "structured":
        event = {"specversion": "1.0", "id": "7", "source": "/x", "type": "notes.Noted", "time": time, "data": {}}
        block, body = [("Content-Type", "application/cloudevents+json")], json.dumps(event).encode()
    subject = f"{bus.namespace}.notes.event.noted.a"
    await JetStream(connection).publish(subject, body, headers=header_block.encode(block))
    stored = await JetStream(connection).get_last(f"{bus.namespace}-notes-events", ">")
    assert stored is not None
    async with bus.tap(since="first") as tap:
        (read,) = await take(tap, 1)
    assert event_time(stored) == stored.time
    assert read.time == pytest.approx(stored.time, abs=0.001)  # read from another form


async def test_a_stream_of_an_earlier_version_is_reported(bus: Bus, connection: Connection) -> None:
    old = {"name": f"{bus.namespace}-bells-events", "subjects": [f"{bus.namespace}.bells.event.*.*"]}
    await JetStream(connection).create_stream(old)
    reports: list[str] = []
    async with bus.tap(report=reports.append) as tap:
        await bus.emit(Ticked(1))
        assert await numbers(tap, 1) == [1]
    assert len(reports) == 1 and "run `actorloom upgrade bells`" in reports[0]


async def test_a_tap_of_named_actors_needs_the_permissions_of_a_follower_and_a_refusal_is_raised(
    tmp_path: Path,
) -> None:
    def options(user: str) -> ConnectionOptions:
        return ConnectionOptions(url=server.url, user=user, password=user)

    async with EmbeddedServer(port=0, store_dir=tmp_path, config=PERMISSIONS) as server:
        async with (
            await Connection.connect(options("owner")) as owner,
            await Connection.connect(options("page")) as page,
            await Connection.connect(options("reader")) as reader,
        ):
            buses = [Bus(each, Tracing(in_memory=True).service("test")) for each in (owner, page, reader)]
            await add_stream(buses[0], "notes")
            await buses[0].emit(Ticked(1))
            async with buses[1].tap("notes.event.*", since="first") as tap:
                assert await numbers(tap, 1) == [1]
            with pytest.raises(PermissionDenied, match=r"CONSUMER\.CREATE\.notes-events"):
                await take(buses[2].tap("notes.event.*"), 1)
            with pytest.raises(PermissionDenied, match=r"STREAM\.NAMES"):
                await take(buses[2].tap(), 1)


async def test_a_wrong_call_is_refused(bus: Bus) -> None:
    wrong: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        (("orders",), {}, r"Bus\.tap: 'orders': write a subject"),
        ((), {"where": {"a": []}}, "where.a"),
        ((), {"where": "{"}, "where"),
        ((), {"trace": TRACE.upper()}, "32 hex digits"),
        ((), {"trace": 7}, "32 hex digits"),
        ((), {"since": "yesterday"}, r"Bus\.tap: since='yesterday'"),
    ]
    for subjects, options, message in wrong:
        with pytest.raises(DeclarationError, match=message):
            bus.tap(*subjects, **options)


async def test_a_handler_cannot_tap(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Notes, url=nats_server.url, namespace=namespace) as system:
        BUSES[:] = [system.bus]
        assert "a handler cannot wait for events" in await system.bus.query(Listen())
