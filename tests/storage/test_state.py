"""Stored states of other versions: they are upgraded step by step, or refused for their key only."""

import asyncio
import enum
import logging
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec
import pytest

from runtime import (
    Actor,
    Command,
    Event,
    Index,
    NotDelivered,
    Options,
    Query,
    RetryPolicy,
    command,
    query,
    react,
)
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.storage.dead_letters import DeadLetters
from runtime.storage.record import Record, Unreadable
from runtime.storage.state import States
from runtime.testing import System, running
from runtime.wire.subjects import Names


class GetNote(Query[str], actor="notes", key="name"):
    name: str


class Write(Command[str], actor="notes", key="name"):
    name: str
    text: str


class Drop(Command[None], actor="notes", key="name"):
    name: str


class ListNotes(Query[list[str]], actor="notes"):
    pass


class Renamed(Event, actor="desk", key="name"):
    name: str


class NoteOne(msgspec.Struct, frozen=True):
    text: str


class NoteTwo(msgspec.Struct, frozen=True):
    words: list[str]


class NoteThree(msgspec.Struct, frozen=True):
    words: list[str]
    length: int


class One(Actor[NoteOne], indexes=[Index()]):
    """The first version."""

    name = "notes"

    @command
    async def write(self, message: Write) -> str:
        self.state = NoteOne(message.text)
        return message.text

    @command
    async def drop(self, message: Drop) -> None:
        self.state = None

    @query
    async def get_note(self, message: GetNote) -> str:
        return self.state.text if self.state else "none"

    @query
    async def list_notes(self, message: ListNotes) -> list[str]:
        return [note.text for note in (await self.list(limit=1000)).items]


class Two(Actor[NoteTwo], indexes=[Index()]):
    name = "notes"
    state_version = 2
    upgrades = {1: lambda old: {"words": old["text"].split()}}

    @command
    async def write(self, message: Write) -> str:
        self.state = NoteTwo(message.text.split())
        return "two"

    @query
    async def get_note(self, message: GetNote) -> str:
        return "|".join(self.state.words) if self.state else "none"

    @query
    async def list_notes(self, message: ListNotes) -> list[str]:
        return ["|".join(note.words) for note in (await self.list(limit=1000)).items]


class Three(Actor[NoteThree], indexes=[Index()]):
    name = "notes"
    state_version = 3
    upgrades = {**Two.upgrades, 2: lambda old: {**old, "length": len(old["words"])}}
    options = Options(retry=RetryPolicy(attempts=2, first=0.01, longest=0.02))

    @command
    async def write(self, message: Write) -> str:
        before = self.state.length if self.state else 0
        words = message.text.split()
        self.state = NoteThree(words, len(words))
        return f"{before} → {len(words)}"

    @query
    async def get_note(self, message: GetNote) -> str:
        return f"{self.state.words} {self.state.length}" if self.state else "none"

    @query
    async def list_notes(self, message: ListNotes) -> list[str]:
        return [f"{note.words} {note.length}" for note in (await self.list(limit=1000)).items]


class Reacting(One):
    """The first version, with a reaction."""

    options = Three.options

    @react
    async def on_renamed(self, event: Renamed) -> None:
        self.state = NoteOne(f"renamed {event.name}")


async def write(system: System, **notes: str) -> None:
    await asyncio.gather(*(system.bus.command(Write(name, text)) for name, text in notes.items()))


async def test_states_of_older_versions_are_upgraded_when_they_are_read(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    options = {"url": nats_server.url, "namespace": namespace}
    async with running(One, **options) as system:
        await write(system, a="x y z", b="one two", c="gone")
        await system.bus.command(Drop("c"))
    async with running(Two, **options) as system:
        assert await system.bus.query(GetNote("a")) == "x|y|z"
        await write(system, b="only", d="a b c d")
        assert sorted(await system.bus.query(ListNotes())) == ["a|b|c|d", "only", "x|y|z"]
    async with running(Three, **options) as system:
        assert sorted(await system.bus.query(ListNotes())) == [
            "['a', 'b', 'c', 'd'] 4", "['only'] 1", "['x', 'y', 'z'] 3",
        ]  # fmt: skip
        assert await system.bus.query(GetNote("a")) == "['x', 'y', 'z'] 3"
        assert await system.bus.query(GetNote("c")) == "none"
        assert await system.bus.command(Write("a", "new")) == "3 → 1"
        # Reading does not write: the state of b is still of the second version.
        jetstream, names = JetStream(system.connection), Names("notes", namespace)
        versions = {
            name: msgspec.json.decode(stored.payload, type=Record).state_version
            for name in "abd"
            if (stored := await jetstream.get_last(names.turns_stream, names.turn(name))) is not None
        }
        assert versions == {"a": 3, "b": 2, "d": 2}


async def test_a_state_of_a_newer_version_is_refused_for_its_key_only(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"url": nats_server.url, "namespace": namespace}
    async with running(One, **options) as system:
        await write(system, old="as it was", other="here")
    async with running(Two, **options) as system:
        await write(system, new="from the future")
    text = "notes: the state of key 'new' was written by a newer version of this service (state version 2; "
    async with running(One, **options) as system:
        for message in (GetNote("new"), Write("new", "x")):
            with pytest.raises(NotDelivered) as refused:
                await (system.bus.query if isinstance(message, GetNote) else system.bus.command)(message)
            assert str(refused.value).startswith(text) and refused.value.executed is False
        assert any(text in record.message for record in caplog.records if record.levelno >= logging.WARNING)
        # The other keys are served and listed. The log names the keys that are missing from lists.
        assert await system.bus.query(GetNote("old")) == "as it was"
        assert await system.bus.command(Write("old", "changed")) == "changed"
        assert sorted(await system.bus.query(ListNotes())) == ["changed", "here"]
        assert "notes: 1 of 3 keys are not listed: their records cannot be read" in caplog.messages
        # The circuit breaker is still closed, and a key without a record can be created.
        assert await system.bus.command(Write("fresh", "new")) == "new"
    async with running(Two, **options) as system:
        assert await system.bus.query(GetNote("new")) == "from|the|future"


async def test_an_event_for_a_state_of_a_newer_version_is_a_dead_letter(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    options = {"url": nats_server.url, "namespace": namespace}
    async with running(Two, **options) as system:
        await write(system, new="from the future")
    async with running(Reacting, Desk, **options) as system:
        await system.bus.emit(Renamed("new"))
        await system.bus.emit(Renamed("old"))
        letters = DeadLetters(JetStream(system.connection), Names("notes", namespace))

        async def found() -> list[Any]:
            return [letter async for letter in letters.read()]

        (letter,) = await system.until(found)
        assert "newer version of this service" in letter.failure.reason and letter.failure.attempts == 2
        assert await system.bus.query(GetNote("old")) == "renamed old"


class Desk(Actor):
    """The owner of the event's stream."""

    name = "desk"


class Broken(Two):
    upgrades = {1: lambda old: {"words": old["nothing"]}}


class Unready(Three):
    upgrades = {1: Two.upgrades[1]}


@pytest.mark.parametrize(
    ("actor", "reason"),
    [
        (Broken, "the upgrade from state version 1 failed: KeyError: 'nothing'"),
        (Unready, "no upgrade leads from state version 2 to 3"),
    ],
)
async def test_a_failing_upgrade_fails_its_key_only(
    nats_server: EmbeddedServer,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
    actor: type[Actor[Any]],
    reason: str,
) -> None:
    options = {"url": nats_server.url, "namespace": namespace}
    async with running(One, **options) as system:
        await write(system, old="as it was")
    async with running(actor, **options) as system:
        with pytest.raises(NotDelivered) as refused:
            await system.bus.command(Write("old", "x"))
        assert "KeyError" not in str(refused.value) and refused.value.executed is False  # only the log has the cause
        assert await system.bus.command(Write("fresh", "a b"))
        assert len(await system.bus.query(ListNotes())) == 1
    line = f"notes: a key is refused, and missing from lists: {namespace}.notes.turn.old: {reason}"
    assert caplog.messages.count(line) == 1
    async with running(One, **options) as system:
        assert await system.bus.query(GetNote("old")) == "as it was"


@pytest.mark.parametrize(
    ("version", "state", "text"),
    [
        (2, b'{"words": 5}', "the stored state does not fit NoteTwo: Expected `array`, got `int`"),
        (2, b'{"wor', "the stored state does not fit NoteTwo"),
        (1, b'{"text": null}', "the upgrade from state version 1 failed: AttributeError"),
        (0, b'{"text": ""}', "no upgrade leads from state version 0 to 1"),
    ],
)
def test_the_error_for_an_unreadable_state_names_its_subject(version: int, state: bytes, text: str) -> None:
    states = States("notes", NoteTwo, 2, Two.upgrades)
    with pytest.raises(Unreadable) as refused:
        states.decode(Record("t", version, msgspec.Raw(state)), "notes.turn.a")
    assert str(refused.value).startswith("notes.turn.a: ")
    assert refused.value.reason.startswith("notes.turn.a: ") and text in refused.value.reason


def test_the_version_of_a_key_without_a_state_does_not_matter() -> None:
    assert States("notes", NoteTwo, 2, {}).decode(Record("t", 9), "notes.turn.a") is None
    assert States("notes", None, 1, {}).decode(Record("t", 9, msgspec.Raw(b"{}")), "notes.turn.a") is None


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Rich(msgspec.Struct, frozen=True):
    levels: dict[Level, str]
    numbers: dict[Literal[1, 2, 3], list[int]]
    raw: msgspec.Raw
    at: datetime
    price: Decimal
    data: bytes
    level: Level
    ratio: float | None
    tags: frozenset[str]
    big: int
    inner: "Rich | None" = None


INNER = Rich(
    {Level.HIGH: "h"}, {3: [1]}, msgspec.Raw(b'{"a":[1,2.5,null]}'), datetime(2026, 1, 2, 3, tzinfo=UTC),
    Decimal("1.10"), b"\x00\xff", Level.LOW, 0.1, frozenset({"x"}), 10**40,
)  # fmt: skip
RICH = msgspec.structs.replace(INNER, inner=INNER)


def read_upgraded(upgrade: Any, state: Any = RICH) -> Any:
    record = Record("c", 1, msgspec.Raw(msgspec.json.encode(state)))
    return States("rich", Rich, 2, {1: upgrade}).decode(record, "rich.turn.k")


def form(state: Rich) -> Any:
    return msgspec.json.decode(msgspec.json.encode(state))


def test_an_upgraded_state_of_any_type_is_readable() -> None:
    assert form(read_upgraded(lambda value: value)) == form(RICH)
    assert list(read_upgraded(lambda value: value).levels) == [Level.HIGH]
    # An upgrade may set values that are no JSON yet.
    rich = {name: getattr(INNER, name) for name in Rich.__struct_fields__}
    assert form(read_upgraded(lambda value: {**value, **rich, "inner": INNER})) == form(RICH)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"ratio": math.nan}, "the upgraded state cannot be stored: nan is not a JSON number"),
        ({"big": 1j}, "the upgraded state cannot be encoded: Encoding objects of type complex is unsupported"),
        ({"levels": {7: "x"}}, r"the stored state does not fit Rich: Invalid enum value 7"),
    ],
)
def test_an_upgrade_that_leaves_an_unreadable_value_is_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_upgraded(lambda value: {**value, **change})
    assert text in caught.value.reason
