"""The registry of schemas: a start reads it once, stores changes only, refuses what breaks others, and loses nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, Event, Query, command, query
from runtime.contracts.entries import Entry, entries_of_actor
from runtime.contracts.registry import Registry
from runtime.contracts.rules import ContractBroken, broken_by
from runtime.contracts.versions import KEPT, Record, Start
from runtime.errors import CodecError, ConfigurationError
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.testing import running
from runtime.wire.schemas import Schema, schema
from runtime.wire.subjects import Names

DAY = 86_400.0


class Stock(msgspec.Struct, frozen=True):
    count: int = 0


class CountStock(Query[Stock], actor="shelves", key="sku"):
    """Count it."""

    sku: str


class FillShelf(Command[None], actor="shelves", key="sku", formerly="StackShelf"):
    sku: str
    count: int = 1


class SweepShelf(Command[None], actor="shelves", key="sku"):
    sku: str


class ShelfFilled(Event, actor="shelves", key="sku"):
    sku: str


class Shelves(Actor[Stock]):
    name = "shelves"
    state_version = 2
    upgrades = {1: lambda old: old}

    @query
    async def count(self, message: CountStock) -> Stock:
        return self.state or Stock()

    @command
    async def fill(self, message: FillShelf) -> None:
        self.state = Stock(message.count)

    @command(internal=True)
    async def sweep(self, message: SweepShelf) -> None: ...


def struct(*required: str, **optional: Any) -> Schema:
    """Return the schema of a struct with fields of text."""
    fields: list[Any] = [(name, str) for name in required]
    return schema(msgspec.defstruct("Body", [*fields, *((name, str, value) for name, value in optional.items())]))


def event(*required: str, **optional: Any) -> Entry:
    return Entry("event", "OrderPaid", struct(*required, **optional))


def at(time: float) -> Start:
    return Start("1.0.0", "host-1-abc", time)


def broken(record: Record, entry: Entry, now: float = 0.0) -> list[tuple[str, str, str]]:
    """Return the version, the field and the kind of all that an entry breaks."""
    found = broken_by("orders", [entry], record, now)
    return [(each.version, change.field, change.kind) for each in found for change in each.breaks]


def test_an_actor_has_entries_of_all_its_schemas() -> None:
    found = {each.name: each for each in entries_of_actor(Shelves)}
    kinds = {name: each.kind for name, each in found.items()}
    assert kinds == {
        "CountStock": "query",
        "CountStock.reply": "reply",
        "FillShelf": "command",
        "FillShelf.reply": "reply",
        "SweepShelf": "command",
        "SweepShelf.reply": "reply",
        "ShelfFilled": "event",
        "state.2": "state",
    }
    assert found["FillShelf"].former == ("StackShelf",)


def test_a_version_is_of_the_content_and_not_of_its_words() -> None:
    described = {"title": "A", "description": "b", "properties": {"title": {"type": "string"}}, "required": ["b", "a"]}
    other = {"properties": {"title": {"type": "string", "description": "c"}}, "required": ["a", "b"]}
    assert Entry("event", "A", described).version == Entry("event", "A", other).version
    for changed in ({**other, "properties": {}}, {**other, "default": {"title": "d"}}):
        assert Entry("event", "A", changed).version != Entry("event", "A", other).version


def test_events_are_compared_with_all_versions_of_the_retention() -> None:
    first, second, third = event("a"), event("a", b=""), event("a", "b")
    record = Record().after([first], at(0)).after([second], at(DAY))
    assert broken(record, third, 2 * DAY) == [
        (first.version, "b", "field-required"),
        (second.version, "b", "field-required"),
    ]
    assert broken(record, event("a", b="", c=""), 2 * DAY) == []
    assert broken(record, third, 32 * DAY) == [(second.version, "b", "field-required")], "the first has ended at day 1"
    assert broken(record, second, 2 * DAY) == [], "the newest has passed"


def test_an_older_version_may_start_again_if_both_read_each_other() -> None:
    first, second = event("a"), event("a", b="")
    record = Record().after([first], at(0)).after([second], at(1))
    assert broken(record, first, 2) == []
    again = record.after([first], at(2))
    assert [each.version for each in again.histories[0].versions] == [second.version, first.version]
    newest = again.histories[0].versions[-1]
    assert (newest.registered, newest.seen, newest.until) == (0, 2, 0)


def test_requests_and_replies_are_compared_with_the_version_before() -> None:
    for kind in ("command", "query", "reply"):
        first, second, third = (Entry(kind, "A", struct(*fields)) for fields in (("a",), ("b",), ("b",)))
        record = Record().after([first], at(0)).after([second], at(1))
        assert {each for each, _, _ in broken(record, Entry(kind, "A", struct("a", "b")), 2)} == {second.version}
        assert broken(record, third, 2) == []


def test_states_are_read_whatever_their_age_and_by_new_processes_only() -> None:
    first, second = Entry("state", "state.1", struct("a")), Entry("state", "state.1", struct("a", "b"))
    record = Record().after([first], at(0))
    assert broken(record, second, 900 * DAY) == [(first.version, "b", "field-required")]
    assert broken(record, Entry("state", "state.1", struct()), 1) == []
    assert broken(record, Entry("state", "state.2", struct("b")), 1) == [], "an upgrade reads the states of before"


def test_a_renamed_command_reads_what_is_stored_under_its_former_name() -> None:
    record = Record().after([Entry("command", "DropOrder", struct("a"))], at(0))
    assert broken(record, Entry("command", "CancelOrder", struct("a", b=""), ("DropOrder",))) == []
    found = broken(record, Entry("command", "CancelOrder", struct("b"), ("DropOrder",)))
    assert [(field, kind) for _, field, kind in found] == [("b", "field-required")]
    assert broken(record, Entry("command", "CancelOrder", struct("b"))) == []


def test_versions_before_an_allowed_break_count_no_longer() -> None:
    first, second = event("a"), event("a", "b")
    record = Record().after([first], at(0)).after([second], at(1), [("event", "OrderPaid")])
    assert broken(record, event("a", "b", c=""), 2) == []
    assert [each for each, _, _ in broken(record, first, 2)] == [second.version]


def test_a_start_with_the_newest_version_is_noted_once_a_day() -> None:
    record = Record().after([event("a")], at(0))
    assert record.after([event("a")], at(DAY - 1)) is not record
    assert record.after([event("a")], at(DAY - 1)) == record
    assert record.after([event("a")], at(DAY)).histories[0].versions[-1].seen == DAY


def test_a_history_is_bounded() -> None:
    record = Record()
    for number in range(KEPT + 5):
        record = record.after([event(f"a{number}")], at(number))
    assert [each.registered for each in record.histories[0].versions] == list(range(5, KEPT + 5))
    shorter = record.without_oldest()
    assert shorter is not None
    assert [each.registered for each in shorter.histories[0].versions] == list(range(6, KEPT + 5))
    assert Record().after([event("a")], at(0)).without_oldest() is None


@pytest.fixture
async def jetstream(nats_server: EmbeddedServer) -> AsyncIterator[JetStream]:
    connection = await Connection.connect(ConnectionOptions(url=nats_server.url), name="test")
    yield JetStream(connection)
    await connection.close()


async def test_two_starts_at_once_lose_nothing_of_each_other(jetstream: JetStream, namespace: str) -> None:
    registry = Registry(jetstream, namespace)
    entries = [Entry("event", f"Event{number}", struct("a")) for number in range(8)]
    await asyncio.gather(*(registry.register("orders", [each], at(1)) for each in entries))
    found = await registry.find("orders")
    assert {each.name for each in found.record.histories} == {each.name for each in entries}
    assert found.sequence == 8
    await asyncio.gather(*(registry.register("orders", entries, at(2)) for _ in range(4)))
    assert (await registry.find("orders")).sequence == 8, "nothing has changed"


async def test_a_record_that_is_too_large_loses_its_oldest_versions(
    jetstream: JetStream, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(jetstream, namespace)
    for number in range(5):
        wide = {"type": "string", "x-note": f"{number}" * 300_000}
        await registry.register("orders", [Entry("reply", "A.reply", wide)], at(number))
    versions = (await registry.find("orders")).record.histories[0].versions
    assert [each.registered for each in versions] == [2, 3, 4]
    with caplog.at_level(logging.WARNING, "actorloom.contracts"):
        await registry.register("wide", [Entry("reply", "A.reply", {"x-note": "1" * 2_000_000})], at(1))
    assert "wide: its schemas are not registered" in caplog.text


async def test_an_unreadable_record_is_replaced(
    jetstream: JetStream, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(jetstream, namespace)
    assert [each async for each in registry.read()] == []
    await registry.register("orders", [event("a")], at(1))
    bucket = Names("", namespace).schema_bucket
    await jetstream.publish(f"$KV.{bucket}.orders", b'{"histories":1}')
    assert [type(each) async for each in registry.read()] == [CodecError]
    await registry.register("orders", [event("a", "b")], at(2))
    assert "the registered schemas are unreadable" in caplog.text
    assert len((await registry.find("orders")).record.histories[0].versions) == 1


def orders(state: Any, reply: Any) -> type[Actor[Any]]:
    """Return an actor with these types. Its messages are classes of their own."""

    class GetIt(Query[reply], actor="wares", key="id"):
        id: str

    class Wares(Actor[state]):
        name = "wares"

        @query
        async def get_it(self, message: GetIt) -> reply:  # pyright: ignore
            return self.state

    return Wares


def ware(*required: str, **optional: Any) -> Any:
    fields: list[Any] = [(name, str) for name in required]
    return msgspec.defstruct("Ware", [*fields, *((name, str, value) for name, value in optional.items())], frozen=True)


async def test_a_breaking_start_is_refused_unless_it_is_allowed(
    nats_server: EmbeddedServer, namespace: str, jetstream: JetStream, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"url": nats_server.url, "namespace": namespace}
    before, after, wrong = ware("name"), ware("name", note=""), ware("name", "price")
    async with running(orders(before, before), **options):
        pass
    async with running(orders(after, after), **options):
        pass
    async with running(orders(before, before), **options):  # The old version starts again beside the new one.
        pass
    sequence = (await Registry(jetstream, namespace).find("wares")).sequence
    assert sequence == 3
    with pytest.raises(ContractBroken) as refused:
        async with running(orders(wrong, wrong), **options):
            pass
    text = str(refused.value)
    assert isinstance(refused.value, ConfigurationError)
    assert "wares: its contract has changed in a way that breaks others" in text
    assert "wares.state.1: stored states of version" in text
    assert "price was absent, is required (field-required)" in text
    assert "(0.1.0, registered 20" in text
    assert "wares.GetIt.reply: callers with the new version cannot read replies of processes with version" in text
    assert (await Registry(jetstream, namespace).find("wares")).sequence == sequence, "nothing is registered"
    async with running(orders(wrong, wrong), allow_breaking=True, **options):
        pass
    assert "a breaking change is allowed: wares.state.1: stored states of version" in caplog.text
    async with running(orders(wrong, wrong), **options):
        pass
