"""Following events: in order, each once, whatever happens to the connection, the server and the consumer."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime import Actor, CodecError, Command, ConfigurationError, DeclarationError, Event, Query, command, query
from runtime.client.bus import Bus
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.errors import PermissionDenied
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.following import AHEAD
from runtime.nats.server import EmbeddedServer
from runtime.storage.streams import events_config
from runtime.telemetry import Tracing, attached
from runtime.testing import running
from runtime.wire import header_block
from runtime.wire.subjects import Names


class Noted(Event, actor="notes", key="name", rename="camel"):
    name: str
    number: int = 0


class Ticked(Event, actor="notes"):
    number: int = 0


class Write(Command[None], actor="notes", key="name"):
    name: str
    number: int = 0


class Follow(Query[str], actor="notes"):
    in_task: bool = False


BUSES: list[Bus] = []
"""What the handlers of `Notes` follow events by."""


class Note(msgspec.Struct, frozen=True):
    number: int = 0


class Notes(Actor[Note]):
    name = "notes"

    @command
    async def write(self, message: Write) -> None:
        self.state = Note(message.number)
        self.emit(Noted(message.name, message.number))

    @query
    async def follow(self, message: Follow) -> str:
        async def attempt() -> str:
            try:
                BUSES[0].events(Noted)
            except DeclarationError as error:
                return str(error)
            return "followed"

        return await (asyncio.create_task(attempt()) if message.in_task else attempt())


@pytest.fixture
async def connection(nats_server: EmbeddedServer) -> AsyncIterator[Connection]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        yield connection


@pytest.fixture
async def bus(connection: Connection, namespace: str) -> Bus:
    """A bus in a namespace with the events stream of `notes`."""
    await JetStream(connection).ensure_stream(events_config(Names("notes", namespace)))
    return bus_of(connection, namespace)


def bus_of(connection: Connection, namespace: str = "") -> Bus:
    return Bus(connection, Tracing(in_memory=True).service("test"), namespace=namespace)


def stream_of(bus: Bus) -> str:
    return Names("notes", bus.namespace).events_stream


async def consumers(bus: Bus) -> list[Any]:
    return await JetStream(bus.connection).consumers(stream_of(bus))


async def no_consumers(bus: Bus) -> bool:
    return not await consumers(bus)


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.01)


async def emit(bus: Bus, *numbers: int, name: str = "a") -> None:
    for number in numbers:
        await bus.emit(Noted(name, number))


async def take(events: AsyncIterator[Any], count: int) -> list[int]:
    async with asyncio.timeout(30):
        return [(await anext(events)).number for _ in range(count)]


async def test_events_come_in_order_as_they_are_stored(bus: Bus) -> None:
    await emit(bus, 1, 2)
    await bus.emit(Ticked(1))
    async with aclosing(bus.events(Noted, since="first")) as events:
        assert await take(events, 2) == [1, 2]
        following = asyncio.create_task(take(events, 300))
        for number in range(3, 303):
            await bus.emit(Noted("b" if number % 2 else "c", number))
        assert await following == list(range(3, 303))
    async with aclosing(bus.events(Ticked, since="first")) as ticks:
        assert await anext(ticks) == Ticked(1)


@pytest.mark.parametrize("key", ["a", "é.b *>", "", "_"])
async def test_only_the_events_of_a_key_come(bus: Bus, key: str) -> None:
    for number in range(10):
        await emit(bus, number, name=key if number % 3 == 0 else "other")
    async with aclosing(bus.events(Noted, key=key, since="first")) as events:
        assert await take(events, 4) == [0, 3, 6, 9]


async def test_new_events_are_those_after_the_beginning(bus: Bus) -> None:
    await emit(bus, 1)
    async with bus.events(Noted) as events:
        await emit(bus, 2, 3)
        assert await take(events, 1) == [2]
        late = bus.events(Noted, key="b")
        waiting = asyncio.create_task(take(late, 1))
        await emit(bus, 4, name="b")  # may come before the beginning
        await until(lambda: _has(bus, 2))
        await emit(bus, 5, name="b")
        assert await waiting in ([4], [5])
        await late.aclose()
        assert await take(events, 3) == [3, 4, 5]
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_events_come_from_a_time_on(bus: Bus, connection: Connection) -> None:
    await emit(bus, 1, 2)
    stored = await JetStream(connection).get(stream_of(bus), 2)
    assert stored is not None
    since = datetime.fromtimestamp(stored.time - 2e-6, UTC).isoformat()  # a float has microseconds only
    for start in (since, since.replace("+00:00", "Z")):
        events = bus.events(Noted, since=start)
        assert await take(events, 1) == [2]
        await events.aclose()
    future = bus.events(Noted, since="2100-01-01T00:00:00Z")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await anext(future)
    await future.aclose()


async def test_at_most_64_events_are_pulled_ahead(bus: Bus) -> None:
    await emit(bus, *range(300))
    events = bus.events(Noted, since="first")
    for taken in range(1, 101):
        assert await take(events, 1) == [taken - 1]
        (consumer,) = await consumers(bus)
        assert consumer.delivered.consumer_seq <= taken + 64
    assert consumer.delivered.consumer_seq > 100, "nothing is pulled ahead"
    await events.aclose()


async def test_a_server_that_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """With several in hand, and with an idle follower, at several moments."""
    async with EmbeddedServer(port=0, store_dir=tmp_path, sync_always=True) as server:
        async with await Connection.connect(ConnectionOptions(url=server.url)) as connection:
            bus = bus_of(connection)
            await JetStream(connection).ensure_stream(events_config(Names("notes")))
            async with bus.events(Noted, since="first") as first, bus.events(Noted, key="b") as idle:
                await emit(bus, *range(100))
                seen, waiting = await take(first, 10), asyncio.create_task(take(idle, 3))
                for start in (100, 200, 300):
                    server.kill()
                    await server.start()
                    await connection.wait_connected(10)
                    await emit(bus, *range(start, start + 100))
                    await emit(bus, start, name="b")
                    seen += await take(first, 50)
                assert await waiting == [100, 200, 300]
                seen += await take(first, 403 - len(seen))
                assert list(dict.fromkeys(seen)) == list(range(400))
                assert sorted(seen) == sorted([*range(400), 100, 200, 300])


async def test_a_deleted_consumer_is_made_anew_at_its_place(bus: Bus, connection: Connection) -> None:
    await emit(bus, *range(200))
    events, seen = bus.events(Noted, since="first"), list[int]()
    for _ in range(2):
        seen += await take(events, AHEAD + 6)
        (consumer,) = await consumers(bus)
        await JetStream(connection).delete_consumer(stream_of(bus), consumer.name)
    seen += await take(events, 200 - len(seen))
    waiting = asyncio.create_task(take(events, 1))
    for _ in range(3):
        await until(lambda: _has(bus, 1))  # the follower has noticed it, and makes a consumer while it waits
        (consumer,) = await consumers(bus)
        await JetStream(connection).delete_consumer(stream_of(bus), consumer.name)
    await emit(bus, 200)
    assert seen + await waiting == list(range(201))
    await events.aclose()


async def break_off(bus: Bus) -> None:
    async for _ in bus.events(Noted, since="first"):
        break


async def raise_an_error(bus: Bus) -> None:
    async def follow() -> None:
        async for _ in bus.events(Noted, since="first"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await follow()


async def cancel(bus: Bus) -> None:
    async def follow() -> None:
        async for event in bus.events(Noted, since="first"):
            if event.number == 99:
                reached.set()

    reached = asyncio.Event()
    task = asyncio.create_task(follow())
    await reached.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def close(bus: Bus) -> None:
    events = bus.events(Noted, since="first")
    await anext(events)
    await events.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(events)


@pytest.mark.parametrize("end", [break_off, raise_an_error, cancel, close])
async def test_the_end_deletes_the_consumer(bus: Bus, end: Callable[[Bus], Awaitable[None]]) -> None:
    await emit(bus, *range(100))
    kept = bus.events(Noted, since="first")
    await anext(kept)
    await end(bus)
    await until(lambda: _has(bus, 1))
    await kept.aclose()
    await until(lambda: no_consumers(bus))


async def _has(bus: Bus, count: int) -> bool:
    return len(await consumers(bus)) == count


async def test_a_second_task_is_refused_and_takes_nothing(bus: Bus) -> None:
    events = bus.events(Noted)
    waiting = asyncio.create_task(anext(events))
    await until(lambda: _has(bus, 1))
    for call in (events.__anext__, events.aclose):
        with pytest.raises(RuntimeError, match=r"Bus.events\(Noted\): another task waits for the next event"):
            await call()
    await emit(bus, 1, 2)
    assert (await waiting).number == 1
    assert await take(events, 1) == [2]
    assert len(await consumers(bus)) == 1
    await events.aclose()


async def test_a_follower_goes_on_after_a_timeout(bus: Bus) -> None:
    async with bus.events(Noted) as events:
        for number in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(events)
            await emit(bus, number)
            assert await take(events, 1) == [number]


async def test_a_consumer_that_is_left_behind_goes_by_itself(bus: Bus) -> None:
    """The process of the follower is killed; the server is told the time after which it deletes the consumer."""
    program = f"""
import asyncio
from runtime import connect
from tests.client.test_events import Noted
async def main():
    async with connect("{bus.connection.options.url}", namespace="{bus.namespace}") as bus:
        async for event in bus.events(Noted):
            pass
asyncio.run(main())
"""
    process = await asyncio.to_thread(subprocess.Popen, [sys.executable, "-c", program])
    await until(lambda: _has(bus, 1))
    process.kill()
    process.wait()
    (left,) = await consumers(bus)
    assert left.config["inactive_threshold"] == 30_000_000_000


async def test_an_event_that_cannot_be_decoded_is_an_error_and_the_next_one_follows(
    bus: Bus, connection: Connection
) -> None:
    jetstream, subject = JetStream(connection), f"{bus.namespace}.notes.event.noted.a"
    structured = header_block.encode([("Content-Type", "application/cloudevents+json")])
    event = {"specversion": "1.0", "id": "1", "source": "/x", "type": "notes.Noted", "data": {"name": "a", "number": 7}}
    await emit(bus, 1)
    for body in (b'{"name":7}', b"\xff", b"{" * 100_000):
        await jetstream.publish(subject, body)
    await jetstream.publish(subject, b"{}", headers=structured)
    await jetstream.publish(subject, json.dumps(event).encode(), headers=structured)
    events = bus.events(Noted, since="first")
    assert await take(events, 1) == [1]
    for sequence in (2, 3, 4, 5):
        with pytest.raises(CodecError, match=rf"notes\.event\.noted\.a, sequence {sequence} of {stream_of(bus)}: "):
            await anext(events)
    assert await take(events, 1) == [7]
    await events.aclose()


async def test_a_stream_that_is_missing_is_an_error_that_names_it(connection: Connection, namespace: str) -> None:
    bus = bus_of(connection, namespace)
    for since in ("new", "first"):
        events = bus.events(Noted, since=since)
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=rf"no stream {namespace}-notes-events: notes creates it"):
                await anext(events)
    await JetStream(connection).ensure_stream(events_config(Names("notes", namespace)))
    await emit(bus, 1)
    assert await take(events, 1) == [1]
    await JetStream(connection).delete_stream(stream_of(bus))
    with pytest.raises(ConfigurationError, match="no stream"):
        async with asyncio.timeout(20):
            await anext(events)
    await events.aclose()


async def test_a_stream_that_is_replaced_is_followed_from_its_beginning(
    bus: Bus, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    jetstream = JetStream(connection)
    async with bus.events(Noted) as events:
        await emit(bus, 1, 2, 3)
        assert await take(events, 3) == [1, 2, 3]
        waiting = asyncio.create_task(take(events, 2))
        await jetstream.delete_stream(stream_of(bus))
        await jetstream.ensure_stream(events_config(Names("notes", bus.namespace)))
        await emit(bus, 4, 5)
        assert await waiting == [4, 5]
    assert "was deleted and created again" in caplog.text


async def test_a_follower_goes_on_at_the_end_of_a_restored_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = EmbeddedServer(port=0, store_dir=tmp_path / "live")
    await server.start()
    try:
        async with await Connection.connect(ConnectionOptions(url=server.url)) as connection:
            bus = bus_of(connection)
            await JetStream(connection).ensure_stream(events_config(Names("notes")))
            async with bus.events(Noted) as events:
                await emit(bus, 1, 2)
                assert await take(events, 2) == [1, 2]
                await server.stop()
                shutil.copytree(tmp_path / "live", tmp_path / "backup")
                await server.start()
                await connection.wait_connected(10)
                await emit(bus, 3, 4, 5)
                assert await take(events, 3) == [3, 4, 5]
                waiting = asyncio.create_task(take(events, 3))
                await server.stop()
                shutil.rmtree(tmp_path / "live")
                shutil.move(tmp_path / "backup", tmp_path / "live")
                await server.start()
                await connection.wait_connected(10)
                await until(lambda: _says(caplog, "has lost messages: it ended at 5, and ends at 2 now"))
                await emit(bus, 6, 7, 8)
                assert await asyncio.wait_for(waiting, 10) == [6, 7, 8]
    finally:
        await server.stop()


async def _says(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return text in caplog.text


async def test_a_stream_of_an_earlier_version_is_refused(connection: Connection, namespace: str) -> None:
    config = {"name": f"{namespace}-notes-events", "subjects": [f"{namespace}.notes.event.*.*"]}
    await JetStream(connection).create_stream(config)
    with pytest.raises(ConfigurationError, match="actorloom upgrade notes"):
        await anext(bus_of(connection, namespace).events(Noted))


async def test_a_wrong_call_is_refused_by_name(bus: Bus) -> None:
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (Write, {}, "Write.*the class of an event"),
        (Noted("a"), {}, "Noted.*the class of an event"),
        (int, {}, "int is not a message"),
        (Ticked, {"key": "a"}, "Ticked.*no key"),
        (Noted, {"key": 7}, "Noted.*key=7 is not a text"),
        (Noted, {"since": "yesterday"}, "Noted.*since='yesterday'"),
        (Noted, {"since": "2026-01-01T00:00:00"}, "Noted.*no zone"),
        (Noted, {"since": 7}, "Noted.*since=7"),
    ]
    for event, arguments, text in wrong:
        with pytest.raises(DeclarationError, match=text):
            bus.events(event, **arguments)
    with pytest.raises(CodecError, match="too long"):
        bus.events(Noted, key="x" * 2000)


async def test_a_handler_cannot_follow_events(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Notes, url=nats_server.url, namespace=namespace) as system:
        BUSES[:] = [system.bus]
        for in_task in (False, True):
            assert "declare a reaction" in await system.bus.query(Follow(in_task))
        async with system.bus.events(Noted, key="a") as events:
            await system.bus.command(Write("a", 5))
            assert await take(events, 1) == [5]


async def test_the_current_span_is_linked_to_the_spans_of_the_events(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Notes, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Write("a", 5))
        template = system.tracing.service("page").template("page")
        with attached(template.child()) as span:
            async with system.bus.events(Noted, since="first") as events:
                assert await take(events, 1) == [5]
            span.end()
        spans = system.tracing.finished()
        (published,) = [each for each in spans if each.name.startswith("publish ")]
        (page,) = [each for each in spans if each.name == "page"]
        assert page.links == ((published.trace_id, published.span_id),)


PERMISSIONS = """
authorization { users: [
  { user: owner, password: owner }
  { user: page, password: page, permissions: {
    publish: ["$SYS.REQ.USER.INFO", "$JS.API.STREAM.INFO.notes-events", "$JS.API.CONSUMER.CREATE.notes-events.>",
              "$JS.API.CONSUMER.MSG.NEXT.notes-events.*", "$JS.API.CONSUMER.DELETE.notes-events.*"]
    subscribe: ["_INBOX.>"]
  } }
  { user: reader, password: reader, permissions: { publish: ["$SYS.REQ.USER.INFO", "$JS.API.STREAM.INFO.>"], subscribe: ["_INBOX.>"] } }
] }
"""
"""The permissions of a follower, as docs/operations.md names them, and those of a client with too few."""


async def test_a_follower_needs_few_permissions_and_a_refusal_is_an_error(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "operations.md"
    text = " ".join(page.read_text().split())
    for permission in ("STREAM.INFO.", "CONSUMER.CREATE.", "CONSUMER.MSG.NEXT.", "CONSUMER.DELETE."):
        assert f"`$JS.API.{permission}orders-events" in text

    def options(user: str) -> ConnectionOptions:
        return ConnectionOptions(url=server.url, user=user, password=user)

    async with EmbeddedServer(port=0, store_dir=tmp_path, config=PERMISSIONS) as server:
        async with (
            await Connection.connect(options("owner")) as owner,
            await Connection.connect(options("page")) as page_connection,
            await Connection.connect(options("reader")) as reader,
        ):
            await JetStream(owner).ensure_stream(events_config(Names("notes")))
            async with bus_of(page_connection).events(Noted, since="first") as events:
                await emit(bus_of(owner), 1)
                assert await take(events, 1) == [1]
            await until(lambda: no_consumers(bus_of(owner)))
            with pytest.raises(PermissionDenied, match=r"CONSUMER\.CREATE\.notes-events"):
                await anext(bus_of(reader).events(Noted))
