"""Isolation: no message but a committed one changes what another message sees, whatever parts the state has."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from runtime import (
    Accepted,
    Actor,
    Command,
    Event,
    HandlerFailed,
    Index,
    Options,
    Query,
    Rejected,
    RetryPolicy,
    command,
    query,
    react,
)
from runtime.nats.server import EmbeddedServer
from runtime.storage.settlement import Conflict
from tests.support.commits import replace_commit
from tests.support.probe import Probe, running


class Line(msgspec.Struct, eq=False):
    """A part that is not frozen and has no comparison."""

    amount: int = 0


class Basket(msgspec.Struct, frozen=True):
    name: str
    items: dict[str, int]
    lines: list[Line] = []
    tags: set[str] = set()
    notes: Any = None


class Do(Command[Basket | None], actor="baskets", key="name"):
    """Changes the state in place, and then ends as `how` names."""

    name: str
    how: str


class DoLater(Command[Accepted], actor="baskets", key="name"):
    name: str
    how: str


class Look(Query[Basket], actor="baskets", key="name"):
    name: str
    change: bool = False


class LookAtAll(Query[list[Basket]], actor="baskets"):
    change: bool = False


class BasketMoved(Event, actor="baskets", key="name"):
    name: str
    how: str


def filled() -> Basket:
    return Basket("k", {"a": 1}, [Line(1)], {"x", "y"}, {"deep": [1]})


KEPT: list[Basket] = []
"""States to which a handler has kept a reference."""


def spoil(state: Basket) -> None:
    """Change every mutable part of a state."""
    state.items["spoiled"] = 1
    state.lines[0].amount = 99
    state.lines.append(Line(5))
    state.tags.add("spoiled")
    state.notes["deep"].append("spoiled")


class Baskets(Actor[Basket], indexes=[Index(order="name")]):
    name = "baskets"
    options = Options(retry=RetryPolicy(attempts=2, first=0.001))

    def _do(self, how: str) -> Basket | None:
        if how == "fill":
            self.state = filled()
            KEPT.append(self.state)
            return self.state
        state = self.state
        assert state is not None
        if how == "keep":
            self.state = msgspec.structs.replace(state, name=state.name)
            KEPT.append(self.state)
            return self.state
        spoil(state)
        match how:
            case "reject":
                raise Rejected("no")
            case "fail":
                raise RuntimeError("no")
            case "assign":
                self.state = state
            case "assign another":
                self.state = Basket("k", {"b": 2}, notes=state.notes)
        return None

    @command
    async def do(self, message: Do) -> Basket | None:
        return self._do(message.how)

    @command(accept=True)
    async def do_later(self, message: DoLater) -> None:
        self._do(message.how)

    @react
    async def on_basket_moved(self, event: BasketMoved) -> None:
        self._do(event.how)

    @query
    async def look(self, message: Look) -> Basket:
        assert self.state is not None
        if message.change:
            spoil(self.state)
        return self.state

    @query
    async def look_at_all(self, message: LookAtAll) -> list[Basket]:
        items = (await self.list()).items
        if message.change:
            spoil(items[0])
        return items


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Probe]:
    async with running(Baskets, url=nats_server.url, namespace=namespace) as running_system:
        await running_system.bus.command(Do("k", "fill"))
        yield running_system


def form(state: Basket) -> Any:
    return msgspec.to_builtins(state, order="deterministic")


async def unchanged(system: Probe, state: Basket | None = None) -> None:
    """Check that queries, lists and the stream have `state`, by default that of the fixture."""
    state = state or filled()
    for _ in range(2):
        assert form(await system.bus.query(Look("k"))) == form(state)
        assert list(map(form, await system.bus.query(LookAtAll()))) == [form(state)]
        await system.evict("baskets", "k")
    assert form(await system.state("baskets", "k")) == form(state)


async def test_a_query_changes_its_own_copy(system: Probe) -> None:
    changed = await system.bus.query(Look("k", change=True))
    assert changed.items == {"a": 1, "spoiled": 1}
    assert (await system.bus.query(LookAtAll(change=True)))[0].lines[0].amount == 99
    await unchanged(system)
    await system.bus.command(Do("k", "keep"))
    await unchanged(system)


@pytest.mark.parametrize("how", ["reject", "fail", "forget to assign"])
async def test_a_message_that_leaves_nothing_changes_nothing(
    system: Probe, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = Rejected if how == "reject" else HandlerFailed
    with pytest.raises(error) as caught:
        await system.bus.command(Do("k", how))
    await unchanged(system)
    if how == "forget to assign":
        assert caught.value.executed is False and "changed a part of self.state in place" in caplog.text
    await system.bus.emit(BasketMoved("k", how))
    await system.bus.command(DoLater("k", how))

    async def given_up() -> bool:
        return len(await system.stored_dead_letters("baskets")) == 2

    await system.until(given_up)
    await unchanged(system)
    await system.bus.command(Do("k", "keep"))
    await unchanged(system)


async def test_a_state_that_was_changed_in_place_and_assigned_is_stored(system: Probe) -> None:
    await system.bus.command(Do("k", "assign"))
    spoiled = await system.bus.query(Look("k"))
    assert spoiled.items == {"a": 1, "spoiled": 1} and len(spoiled.lines) == 2 and "spoiled" in spoiled.tags
    await unchanged(system, spoiled)
    await system.bus.command(Do("k", "assign another"))
    await unchanged(system, Basket("k", {"b": 2}, notes={"deep": [1, "spoiled", "spoiled"]}))


async def test_a_state_that_a_handler_keeps_a_reference_to_is_another_object(system: Probe) -> None:
    assert await system.bus.command(Do("k", "keep")) is not None
    for state in KEPT:
        state.items["later"] = 1
    stored = await system.state("baskets", "k")
    assert "later" not in stored.items
    await unchanged(system, stored)


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

ALIKE: dict[str, tuple[Any, Any]] = {
    "a truth value": (1, True),
    "a float": (1, 1.0),
    "a sign": (0.0, -0.0),
    "an order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "a zone": (NOON, NOON.astimezone(timezone(timedelta(hours=1)))),
    "digits": (Decimal("1.0"), Decimal("1.00")),
    "deep inside": ({"a": [{"b": 1}]}, {"a": [{"b": True}]}),
}
"""Two values that are equal, and whose JSON differs."""


class Note(msgspec.Struct, frozen=True):
    value: Any


class Time(msgspec.Struct, frozen=True):
    """A state without mutable parts."""

    at: datetime


class SetNote(Command[None], actor="notes", key="name"):
    name: str
    index: int
    in_place: bool = False


class SetTime(Command[None], actor="times", key="name"):
    name: str
    at: datetime


class Notes(Actor[Note]):
    name = "notes"

    @command
    async def set_note(self, message: SetNote) -> None:
        value = ALIKE[message.name][message.index]
        if message.in_place:
            assert self.state is not None
            self.state.value.clear()
            self.state.value.update(value)
        else:
            self.state = Note(value)


class Times(Actor[Time]):
    name = "times"

    @command
    async def set_time(self, message: SetTime) -> None:
        self.state = Time(message.at)


async def test_a_new_state_that_is_equal_to_the_one_before_is_stored(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Notes, Times, url=nats_server.url, namespace=namespace) as system:
        for name, values in ALIKE.items():
            assert values[0] == values[1]
            for index, value in enumerate(values):
                await system.bus.command(SetNote(name, index))
                stored = await system.state("notes", name)
                assert msgspec.json.encode(stored) == msgspec.json.encode(Note(value)), name
        for name in ("an order", "deep inside"):
            with pytest.raises(HandlerFailed):
                await system.bus.command(SetNote(name, 0, in_place=True))
        for at in ALIKE["a zone"]:
            await system.bus.command(SetTime("k", at))
            assert (await system.state("times", "k")).at.utcoffset() == at.utcoffset()


class Take(Command[list[int]], actor="pile", key="name"):
    """Takes numbers from its own list until it is empty, and fails as long as `failures` is positive."""

    name: str
    numbers: list[int]


class NumbersGiven(Event, actor="pile", key="name"):
    name: str
    numbers: list[int]


class Pile(msgspec.Struct, frozen=True):
    taken: tuple[int, ...] = ()


FAILURES = [0]
"""The number of runs that are still to fail."""


class Piles(Actor[Pile]):
    name = "pile"
    options = Options(retry=RetryPolicy(attempts=3, first=0.001))

    def _take(self, numbers: list[int]) -> list[int]:
        taken = (self.state or Pile()).taken
        while numbers:
            taken += (numbers.pop(0),)
        if FAILURES[0]:
            FAILURES[0] -= 1
            raise RuntimeError("on purpose")
        self.state = Pile(taken)
        return list(taken)

    @command
    async def take(self, message: Take) -> list[int]:
        return self._take(message.numbers)

    @react
    async def on_numbers_given(self, event: NumbersGiven) -> None:
        self._take(event.numbers)


async def test_a_message_that_runs_again_is_as_it_was_received(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(Piles, url=nats_server.url, namespace=namespace) as system:
        journal = system.journal("pile")
        commit, conflicts = journal.commit, [Conflict("another writer, says the test")]

        async def refuse_once(*args: Any, **kwargs: Any) -> int:
            if conflicts:
                raise conflicts.pop()
            return await commit(*args, **kwargs)

        replace_commit(monkeypatch, journal, refuse_once)
        assert await system.bus.command(Take("k", [1, 2])) == [1, 2] and not conflicts
        FAILURES[0] = 2
        await system.bus.emit(NumbersGiven("k", [3, 4]))

        async def handled() -> bool:
            return (await system.state("pile", "k")).taken == (1, 2, 3, 4)

        await system.until(handled)
