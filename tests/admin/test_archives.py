"""Archives: the server fills them, and replays read from them."""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from runtime.admin import archives
from runtime.admin.archive_config import (
    Archive,
    difference,
    event_subject,
    merged,
    read_archive,
    settings,
    source,
    stream_name,
    wanted_filters,
)
from runtime.admin.archives import Stored, UnknownArchive
from runtime.admin.refusal import Refused
from runtime.admin.replay import NotFound, Request, Runner, ToReaction, begin, prepare
from runtime.client.bus import Bus
from runtime.errors import ConfigurationError
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.nats.server import EmbeddedServer
from runtime.storage.replays import Replay, Replays
from runtime.storage.streams import events_config
from runtime.telemetry import Tracing
from runtime.wire import header_block
from runtime.wire.subjects import Names
from tests.admin.test_replay import customers
from tests.support.probe import Probe, running
from tests.support.replayed import Books, GetSeen, Mailer, Paid, Returned, Shipped, entry


class Desk:
    """A client with a bus and the archives of a namespace."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.jetstream = JetStream(connection)
        self.namespace = namespace
        self.bus = Bus(connection, Tracing(in_memory=True).service("test"), namespace=namespace)

    async def create(self, *actors: str) -> None:
        """Create the events streams of actors."""
        for actor in actors:
            await self.jetstream.ensure_stream(events_config(Names(actor, self.namespace)))

    async def put(self, *events: str, name: str = "all", **others: object) -> archives.Change:
        flags = {key: others.pop(key) for key in ("force", "dry_run") if key in others}
        archive = Archive(name=name, events=events, **others)  # type: ignore[arg-type]
        return await archives.put(self.jetstream, self.namespace, archive, **flags)  # type: ignore[arg-type]

    async def found(self, name: str = "all") -> Stored:
        return await archives.find_archive(self.jetstream, self.namespace, name)

    async def until_stored(self, count: int, name: str = "all") -> None:
        async with asyncio.timeout(30):
            while (await self.found(name)).messages < count:
                await asyncio.sleep(0.01)

    async def messages(self, name: str = "all") -> list[StoredMessage]:
        return [each async for each in self.jetstream.read(stream_name(self.namespace, name), ">")]

    async def numbers(self, name: str = "all") -> list[tuple[str, int]]:
        """Return the type and the number of each event of an archive."""
        found: list[tuple[str, int]] = []
        for each in await self.messages(name):
            body = msgspec.json.decode(each.payload)
            found.append((each.subject.split(".")[-3], body["number"]))
        return found


@pytest.fixture
def desk(nats_server: EmbeddedServer, namespace: str) -> "contextlib.AbstractAsyncContextManager[Desk]":
    return _desk(nats_server, namespace)


@asynccontextmanager
async def _desk(nats_server: EmbeddedServer, namespace: str) -> AsyncGenerator[Desk]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        yield Desk(connection, namespace)


async def test_the_server_fills_an_archive_from_before_and_after_its_creation(
    desk: "contextlib.AbstractAsyncContextManager[Desk]",
) -> None:
    async with desk as at:
        await at.create("shop")
        for number in range(5):
            await at.bus.emit(Paid("a", number))
            await at.bus.emit(Returned("b", number))
        change = await at.put("shop.event.paid.a", "shop.event.returned", "depot.event")
        assert change.created and change.missing == (Names("depot", at.namespace).events_stream,)
        await at.create("depot")
        await at.until_stored(10)
        for number in range(5, 8):
            await at.bus.emit(Paid("a", number))
            await at.bus.emit(Paid("other", number))
            await at.bus.emit(Returned("b", number))
        await at.bus.emit(Shipped("a", 0))
        await at.until_stored(17)
        found = await at.numbers()
        expected = [(name, number) for number in range(8) for name in ("paid", "returned")]
        assert [each for each in found if each[0] != "shipped"] == expected
        # Subjects, ids and all other headers are those of the events.
        shop = Names("shop", at.namespace)
        originals = {each.subject: each for each in [m async for m in at.jetstream.read(shop.events_stream, ">")]}
        for each in await at.messages():
            if each.subject in originals and each.payload == originals[each.subject].payload:
                headers = header_block.parse(each.headers)
                del headers["Nats-Stream-Source"]
                assert headers == header_block.parse(originals[each.subject].headers)
        await at.jetstream.purge(shop.events_stream, shop.stored_event("*"), 1000)
        assert (await at.jetstream.stream_info(shop.events_stream)).state.messages == 0
        stored = await at.found()
        assert stored.messages == 17 and stored.bytes > 0
        assert stored.first is not None and stored.last is not None and stored.first < stored.last
        assert [each.archive.name for each in await archives.list_archives(at.jetstream, at.namespace)] == ["all"]


async def test_a_change_under_load_loses_and_doubles_nothing(
    desk: "contextlib.AbstractAsyncContextManager[Desk]",
) -> None:
    """Also if a definition comes back: the server would continue an equal source at the place of its last message."""
    async with desk as at:
        await at.create("shop")
        await at.put("shop.event.paid")
        await at.bus.emit(Paid("a", -1))
        await at.until_stored(1)
        number, running_ = 0, True

        async def emit() -> None:
            nonlocal number
            while running_:
                await at.bus.emit(Paid("a", number))
                await at.bus.emit(Returned("a", number))
                number += 1

        load = asyncio.create_task(emit())

        async def follow() -> None:
            """Wait until the archive has an event that is emitted later."""
            before = number
            async with asyncio.timeout(30):
                while max(each for name, each in await at.numbers() if name == "paid") <= before + 1:
                    await asyncio.sleep(0.02)

        definitions = (("shop.event",), ("shop.event.paid", "shop.event.returned.a"), ("shop.event.paid",))
        for events in (*definitions, *definitions[:2], (), definitions[2]):
            await at.put(*events)
            if events:
                await follow()
        running_ = False
        await load
        async with asyncio.timeout(30):
            while ("paid", number - 1) not in (found := await at.numbers()):
                await asyncio.sleep(0.02)
        assert [each for name, each in found if name == "paid"] == list(range(-1, number))
        others = [each for name, each in found if name == "returned"]
        assert others == sorted(set(others)) and 0 < len(others) < number


async def test_a_change_that_drops_messages_is_refused(
    desk: "contextlib.AbstractAsyncContextManager[Desk]",
) -> None:
    async with desk as at:
        await at.create("shop")
        for number in range(5):
            await at.bus.emit(Paid("a", number, note="x" * 1000))
        assert (await at.put("shop.event", keep=86_400.0)).lines == ("+ shop.event.*.*", "keep: 1d")
        await at.until_stored(5)
        change = await at.put("shop.event", "shop.event.paid", max_bytes=10**9, keep=3600.0)
        assert change.lines == ("keep: 1d -> 1h", "max-bytes: no limit -> 1000000000")
        with pytest.raises(Refused, match=r"all would drop all but the newest 2000 of its .*--force"):
            await at.put("shop.event", max_bytes=2000)
        with pytest.raises(Refused, match=r"all would drop messages that it stores for longer than 0.001s.*--force"):
            await at.put("shop.event", keep=0.001)
        assert (await at.found()).archive == Archive(
            name="all", events=("shop.event.*.*",), keep=3600.0, max_bytes=10**9
        )
        change = await at.put("shop.event", max_bytes=2000, force=True, dry_run=True)
        assert len(change.lines) == 2 and (await at.found()).messages == 5
        await at.put("shop.event", max_bytes=2000, force=True)
        assert 0 < (await at.found()).messages < 5
        await archives.delete(at.jetstream, at.namespace, "all")
        with pytest.raises(UnknownArchive, match="there is no archive all"):
            await at.found()


async def test_an_archive_that_rules_fill_has_a_subject(desk: "contextlib.AbstractAsyncContextManager[Desk]") -> None:
    async with desk as at:
        await at.put(name="large")
        await at.jetstream.publish(f"{at.namespace}.archive.large.events", b"{}")
        assert (await at.found("large")).messages == 1
        await at.jetstream.ensure_stream(events_config(Names("archive", at.namespace)))
        for name in ("events", "other"):  # The first is the stream of an actor.
            if name == "events":
                with pytest.raises(Refused, match="exists and is no archive events"):
                    await at.put(name=name)
            with pytest.raises(UnknownArchive):
                await archives.delete(at.jetstream, at.namespace, name)


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("orders.event", "orders.event.*.*"),
        ("orders.event.>", "orders.event.*.*"),
        ("orders.event.*", "orders.event.*.*"),
        ("orders.event.order_paid", "orders.event.order_paid.*"),
        ("orders.event.order_paid.>", "orders.event.order_paid.*"),
        ("orders.event.order_paid.o-1", "orders.event.order_paid.o-1"),
    ],
)
def test_subjects_of_events_are_completed(text: str, subject: str) -> None:
    assert event_subject(text) == subject == event_subject(subject)


@pytest.mark.parametrize(
    "text",
    ["", "orders", "orders.command.pay", "Orders.event", "orders.event.a.b.c", "orders.event.a b", "a.event.>.b"],
)
def test_other_subjects_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no subject of events: write orders"):
        event_subject(text)
    with pytest.raises(ConfigurationError, match="name the actor"):
        event_subject("*.event.order_paid")


subjects = st.builds(
    "{}.event.{}.{}".format,
    st.sampled_from(["orders", "stock"]),
    st.sampled_from("*ab"),
    st.sampled_from(["*", "1", "2"]),
)


@given(st.lists(subjects, min_size=1), st.integers(0, 3), st.sampled_from(["", "prod"]))
def test_a_definition_is_read_from_the_configuration(found: list[str], generation: int, namespace: str) -> None:
    try:
        events = merged(found)
    except ConfigurationError:
        reject()  # two of them overlap
    archive = Archive(name="x", events=events, keep=60.0)
    sources = [source(name, each, generation, 7) for name, each in wanted_filters(namespace, events).items()]
    config = settings(namespace, archive, generation) | {"name": stream_name(namespace, "x"), "sources": sources}
    assert read_archive(namespace, config) == archive
    assert difference(archive, archive) == ()
    assert read_archive("other", config) is None
    # Each subject is covered once.
    for subject in found:
        matching = [
            each
            for each in events
            if all(a in ("*", b) for a, b in zip(each.split("."), subject.split("."), strict=True))
        ]
        assert len(matching) == 1


async def replay(system: Probe, reaction: str, name: str, **others: object) -> Replay:
    """Run a replay from the archive to its end."""
    of = Names("books", system.bus.namespace)
    wanted: dict[str, object] = {"since": 0.0, "rate": 1_000_000.0, "archive": "all", **others}
    planned = await prepare(system.jetstream, of, Request(name=name, reaction=reaction, **wanted))  # type: ignore[arg-type]
    return await Runner(
        system.jetstream, ToReaction(system.jetstream, of), await begin(system.jetstream, of, planned.replay)
    ).run()


async def test_a_replay_reads_what_only_an_archive_has(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Books, Mailer, url=nats_server.url, namespace=namespace) as system:
        at = Desk(system.connection, namespace)
        events: list[Paid | Shipped | Returned] = [
            Paid("a", 0),
            Shipped("a", 1),
            Paid("a", 2),
            Returned("a", 3),
            Shipped("a", 4),
            Paid("b", 5),
        ]
        for event in events:
            await system.bus.emit(event)
            await system.until(partial(_has, system, event.order, entry(event)))
        shop = Names("shop", namespace)
        await system.jetstream.publish(shop.event("paid", "c"), b'{"order": "c", "number": 0}')  # without an id
        await system.until(lambda: _has(system, "c", "Paid 0"))
        await at.put("shop.event", "depot.event")
        await at.until_stored(7)
        times = [archives.event_time(each) for each in await at.messages()]
        for stream in (shop, Names("depot", namespace)):
            await system.jetstream.purge(stream.events_stream, stream.stored_event("*"), 1000)
        live = await seen(system, "a")
        known = await replay(system, "on_change", "known")
        assert (known.status, known.sent, known.archive) == ("done", 7, "all")
        again = await replay(system, "on_change", "second", mode="again")
        assert again.sent == 7
        expected = [*live, *(entry(each, "second") for each in events[:5])]
        await system.until(lambda: _is(system, "a", expected))
        await system.until(lambda: _is(system, "c", ["Paid 0", "Paid 0 second"]))
        # The times are those of the emits: two archives in one second have them all.
        middle = sum(sorted(times)[3:5]) / 2
        assert (await replay(system, "on_change", "late", mode="again", since=middle)).sent == 3
        assert (await replay(system, "on_change_paid", "early", mode="again", until=middle, key="a")).sent == 2
        # What a replay sends is no event of a stream, so that no archive stores it again.
        assert (await at.found()).messages == 7
        with pytest.raises(NotFound, match="there is no archive none"):
            await replay(system, "on_change", "x", archive="none")
        await at.put("shop.event", name="part")
        with pytest.raises(
            NotFound, match=rf"books.on_change: the archive part has no events of {namespace}-depot-events"
        ):
            await replay(system, "on_change", "x", archive="part")


async def seen(system: Probe, key: str) -> list[str]:
    """Return the entries of the reaction that is replayed."""
    found = (await system.bus.query(GetSeen(key))).entries
    return [each for each in found if not each.startswith(("late", "large"))]


async def _has(system: Probe, key: str, text: str) -> bool:
    return text in await seen(system, key)


async def _is(system: Probe, key: str, expected: list[str]) -> bool:
    return await seen(system, key) == expected


async def test_a_killed_replay_from_an_archive_goes_on(nats_server: EmbeddedServer, namespace: str) -> None:
    async with customers(nats_server, namespace) as shop:
        at = Desk(shop.jetstream.connection, namespace)
        total = len(shop.orders) * shop.number
        await at.put("shop.event.paid", "shop.event.returned")
        await at.until_stored(total)
        async with shop.actor():
            await shop.until_purchases(total)
            events = Names("shop", namespace)
            await shop.jetstream.purge(events.events_stream, events.stored_event("*"), total)
            # The stream forgets message ids at once, so that only the actor can recognize what comes twice.
            info = await shop.jetstream.stream_info(shop.names.dead_stream)
            await shop.jetstream.update_stream({**info.config, "duplicate_window": 100_000_000})
            flags = ("--since", "first", "--mode", "again", "--archive", "all", "--name", "x", "--rate", "400", "--yes")
            async with shop.command("replay", "start", "customers.on_paid", *flags, ready="sends events") as tool:
                await shop.until_stored(random.randint(50, 200))
                tool.signal(signal.SIGKILL)
                await tool.wait()
            found = await Replays(shop.jetstream, namespace).find("x")
            assert found is not None and found.replay.status == "running" and found.replay.sent < total
            async with shop.command("replay", "resume", "x", ready="sends events") as tool:
                assert await tool.wait() == 0, tool.text
            shop.check(await shop.until_purchases(2 * total), "x")
