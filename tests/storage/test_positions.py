"""Consumer positions: a deleted consumer continues at its saved position, even if it was deleted while its actor was down."""

import asyncio
from collections import Counter as Tally
from collections.abc import AsyncIterator

import msgspec
import pytest

from runtime import Actor, Event, Options, react
from runtime.host import checks
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.storage.positions import ConsumerPosition, Death, Positions, Running
from runtime.storage.streams import events_config, turns_config
from runtime.wire.subjects import Names
from tests.support.probe import Probe, running

HANDLED: Tally[int] = Tally()


class Sold(Event, actor="stall", key="name"):
    name: str
    number: int


class Sum(msgspec.Struct, frozen=True):
    total: int = 0


class Book(Actor[Sum]):
    """An actor that remembers the id of an event for one second only."""

    name = "book"
    options = Options(handled=1, remember=1.0)

    @react
    async def on_sold(self, event: Sold) -> None:
        HANDLED[event.number] += 1
        self.state = Sum((self.state or Sum()).total + event.number)


class Crier(Actor):
    """An actor without state, which remembers no ids."""

    name = "crier"

    @react
    async def on_sold(self, event: Sold) -> None:
        HANDLED[event.number] += 1


@pytest.fixture(autouse=True)
def _clean() -> None:
    HANDLED.clear()


@pytest.fixture
async def jetstream(nats_server: EmbeddedServer) -> AsyncIterator[JetStream]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        yield JetStream(connection)


async def sell(system: Probe, numbers: range) -> None:
    for number in numbers:
        await system.bus.emit(Sold("a", number))


async def until_entries_expire(jetstream: JetStream, names: Names, system: Probe) -> None:
    """Wait until the dedup entries of all handled events have expired."""

    async def expired() -> bool:
        entries = await jetstream.stream_info(names.turns_stream, subjects=f"{names.prefix}{names.actor}.dedup.>")
        return not entries.state.subjects

    await system.until(expired)


@pytest.mark.parametrize("actor", [Book, Crier])
async def test_a_consumer_deleted_while_its_actor_is_down_continues_at_its_position(
    nats_server: EmbeddedServer,
    namespace: str,
    jetstream: JetStream,
    actor: type[Actor],
    caplog: pytest.LogCaptureFixture,
) -> None:
    names, stream = Names(actor.name, namespace), Names("stall", namespace).events_stream
    async with running(actor, url=nats_server.url, namespace=namespace) as system:
        await sell(system, range(1, 21))
        await system.until(lambda: len(HANDLED) == 20)
        await until_entries_expire(jetstream, names, system)
    position = await Positions(jetstream, names, 1.0, lambda sequence: None).load(stream, actor.name)
    assert position is not None and (position.floor, position.owner) == (20, "")
    await jetstream.delete_consumer(stream, actor.name)
    async with running(actor, url=nats_server.url, namespace=namespace) as system:
        await sell(system, range(21, 24))
        await system.until(lambda: len(HANDLED) == 23)
        info = await jetstream.consumer_info(stream, actor.name)
        assert (info.delivered.consumer_seq, info.delivered.stream_seq) == (3, 23)
    assert set(HANDLED.values()) == {1}
    assert f"consumer {stream}/{actor.name} was deleted: it is created again after sequence 20" in caplog.messages
    caplog.clear()
    async with running(actor, url=nats_server.url, namespace=namespace):
        assert not [message for message in caplog.messages if "created again" in message]


async def test_a_consumer_reads_a_stream_that_was_created_again_from_its_start(
    nats_server: EmbeddedServer, namespace: str, jetstream: JetStream
) -> None:
    source = Names("stall", namespace)
    async with running(Book, url=nats_server.url, namespace=namespace) as system:
        await sell(system, range(1, 21))
        await system.until(lambda: len(HANDLED) == 20)
    await jetstream.delete_stream(source.events_stream)
    await jetstream.ensure_stream(events_config(source))
    async with running(Book, url=nats_server.url, namespace=namespace) as system:
        await sell(system, range(101, 104))
        await system.until(lambda: len(HANDLED) == 23)
        info = await jetstream.consumer_info(source.events_stream, "book")
        assert info.delivered.stream_seq == 3


async def test_a_position_is_saved_while_the_actor_runs_and_only_if_it_has_moved(
    nats_server: EmbeddedServer, namespace: str, jetstream: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_TICK", 0.05)
    names, stream = Names("book", namespace), Names("stall", namespace).events_stream
    subject = names.position(stream, "book")
    async with running(Book, url=nats_server.url, namespace=namespace) as system:
        await sell(system, range(1, 6))

        async def saved() -> bool:
            stored = await jetstream.get_last(names.turns_stream, subject)
            return stored is not None and msgspec.json.decode(stored.payload, type=ConsumerPosition).floor == 5

        await system.until(saved)
        stored = await jetstream.get_last(names.turns_stream, subject)
        assert stored is not None and msgspec.json.decode(stored.payload, type=ConsumerPosition).owner
        consumers = system.consumers("book")
        looks = 0
        check = consumers.check

        async def counted() -> None:
            nonlocal looks
            await check()
            looks += 1

        monkeypatch.setattr(consumers, "check", counted)
        await system.until(lambda: looks > 3)
        assert await jetstream.get_last(names.turns_stream, subject) == stored


async def test_a_saved_position_is_loaded_and_its_sequence_passed_to_the_callback(
    nats_server: EmbeddedServer, namespace: str, jetstream: JetStream
) -> None:
    names = Names("book", namespace)
    await jetstream.ensure_stream(turns_config(names))
    stored: list[int] = []
    positions = Positions(jetstream, names, 60.0, stored.append)
    assert await positions.load("s", "book") is None and await positions.attempts("s", "book", 7) == 0
    assert await positions.running("s", "book") is None
    deaths = (Death("other", 3, 9, ((7, 2),)),)
    position = ConsumerPosition("then", "later", 5, "me", 2, deaths, ((8, 1),))
    await positions.save("s", "book", position)
    await positions.save("s", "book", position)
    await positions.save_attempts("s", "book", 7, 1)
    await positions.save_attempts("s", "book", 7, 2)
    assert stored == [1, 2, 3] and await positions.attempts("s", "book", 7) == 2
    running = Running("me", 2, (7, 8))
    await positions.save_running("s", "book", running)
    assert stored == [1, 2, 3, 4] and await positions.running("s", "book") == running
    positions.report_survival("host.example-7", 3)

    async with asyncio.timeout(30):
        while (survived := await positions.survived(["host.example-7", "other"]))["host.example-7"] == 0:
            await asyncio.sleep(0.002)
    assert survived == {"host.example-7": 3, "other": 0}
    assert await Positions(jetstream, names, 60.0, stored.append).load("s", "book") == position


async def test_an_actor_serves_while_its_positions_cannot_be_saved_and_saves_them_later(
    nats_server: EmbeddedServer,
    namespace: str,
    jetstream: JetStream,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(checks, "_TICK", 0.05)
    names, stream = Names("crier", namespace), Names("stall", namespace).events_stream

    async def refuse_above(size: int) -> None:
        """Set the largest message that the turns stream accepts."""
        config = {**(await jetstream.stream_info(names.turns_stream)).config, "max_msg_size": size}
        subject = f"$JS.API.STREAM.UPDATE.{names.turns_stream}"
        answer = await jetstream.connection.request(subject, msgspec.json.encode(config), timeout=5)
        assert "error" not in msgspec.json.decode(answer.payload)

    await jetstream.ensure_stream(turns_config(names))
    await refuse_above(100)
    async with running(Crier, url=nats_server.url, namespace=namespace) as system:
        await sell(system, range(1, 6))
        await system.until(lambda: len(HANDLED) == 5)
        await system.until(lambda: "could not be saved" in caplog.text)
        known = system.consumers("crier").positions
        await system.until(lambda: known.get(stream, "crier").floor == 5)
        await refuse_above(-1)
        positions = Positions(jetstream, names, 60.0, lambda sequence: None)

        async def saved() -> bool:
            position = await positions.load(stream, "crier")
            return position is not None and position.floor == 5

        await system.until(saved)
        assert system.is_ready("crier") and not system.restarts("crier")


async def test_an_unreadable_position_is_ignored(
    nats_server: EmbeddedServer, namespace: str, jetstream: JetStream, caplog: pytest.LogCaptureFixture
) -> None:
    names, stream = Names("book", namespace), Names("stall", namespace).events_stream
    async with running(Book, url=nats_server.url, namespace=namespace):
        pass
    await jetstream.publish(names.position(stream, "book"), b"not a position")
    async with running(Book, url=nats_server.url, namespace=namespace) as system:
        await sell(system, range(1, 3))
        await system.until(lambda: len(HANDLED) == 2)
    assert f"{names.position(stream, 'book')} is not a consumer position" in caplog.text
