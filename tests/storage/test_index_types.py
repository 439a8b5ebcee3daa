"""The types of index fields: lists are in the order of the values, filters find equal values, and types without an order are refused."""

import asyncio
import enum
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct

from runtime import Actor, Command, DeclarationError, HandlerFailed, Index, InvalidMessage, Page, Query, command, query
from runtime.actor.indexes import scales_of
from runtime.errors import InvalidValue
from runtime.nats.server import EmbeddedServer
from runtime.storage.index import Indexes
from runtime.storage.listing import Declared
from runtime.testing import worker
from tests.support.probe import running

Aware = Annotated[datetime, Meta(tz=True)]
Amount = NewType("Amount", Decimal)
When = NewType("When", Aware)  # type: ignore[valid-newtype]


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 10


class Name(enum.StrEnum):
    ANN = "ann"
    BOB = "bob"


ZONES = st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), timezone(timedelta(hours=-11))])
TIMES = st.datetimes(timezones=ZONES).filter(lambda value: 2 < value.year < 9998)
NEAR = st.builds(
    lambda minutes, zone: (datetime(2026, 10, 25, 0, 30, tzinfo=UTC) + timedelta(minutes=minutes)).astimezone(zone),
    st.integers(0, 9).map(lambda n: n * 20),
    ZONES,
)
"""Times around the end of summer time in Berlin, where 02:30 is there twice."""
DECIMALS = st.decimals(allow_nan=False) | st.sampled_from([Decimal("1.5"), Decimal("1.50"), Decimal("-0"), Decimal(0)])
KINDS: dict[str, tuple[Any, Any, Any]] = {
    "str": (str, st.text("aAz\x00é漢😀", max_size=3), lambda value: value),
    "int": (int, st.integers() | st.just(2**70), lambda value: value),
    "float": (float, st.floats(allow_nan=False, allow_infinity=False), lambda value: value),
    "number": (int | float, st.integers(-3, 3) | st.floats(-3, 3), lambda value: value),
    "bool": (bool, st.booleans(), lambda value: value),
    "date": (date, st.dates(), lambda value: value),
    "datetime": (Aware, TIMES | NEAR, lambda value: value.astimezone(UTC)),
    "newtype": (When, NEAR, lambda value: value.astimezone(UTC)),
    "decimal": (Amount, DECIMALS, lambda value: value),
    "uuid": (UUID, st.uuids(), str),
    "enum": (Color, st.sampled_from(Color), lambda value: value.value),
    "int enum": (Level, st.sampled_from(Level), lambda value: value.value),
    "str enum": (Name, st.sampled_from(Name), lambda value: value.value),
    "literal": (Literal["b", "a"], st.sampled_from(["a", "b"]), lambda value: value),
}
"""For each kind: the type of the field, its values, and the form of a value that Python compares."""


def declared(kind: Any) -> tuple[type[Struct], Declared]:
    """Return a type of states with a field of this type or None, and the indexes over it."""
    state = msgspec.defstruct("State", [("name", str), ("value", kind | None)], frozen=True)
    indexes = (Index(order="value"), Index("value", order="name"))
    return state, Declared("things", indexes, scales_of("Things", indexes, state))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_lists_are_in_the_order_of_the_values_and_filters_find_equal_ones(kind: str, data: st.DataObject) -> None:
    field, values, compared = KINDS[kind]
    state_type, plan = declared(field)
    states: dict[str, Any] = {}

    async def read(tokens: list[str]) -> list[Any]:
        return [states.get(token) for token in tokens]

    indexes = Indexes(plan, read)
    for number, value in enumerate(data.draw(st.lists(st.none() | values, max_size=20))):
        # As a state is read from the stream: a time has the offset of its zone.
        states[f"k{number}"] = state = msgspec.json.decode(
            msgspec.json.encode(state_type(f"k{number}", value)), type=state_type
        )
        indexes.update(f"k{number}", state)

    def position(item: tuple[str, Any]) -> tuple[bool, Any, str]:
        return item[1].value is not None, compared(item[1].value) if item[1].value is not None else None, item[0]

    ordered = [state for _, state in sorted(states.items(), key=position)]
    limit = data.draw(st.integers(1, 5))
    assert asyncio.run(pages(indexes, {}, "value", limit)) == ordered
    assert asyncio.run(pages(indexes, {}, "-value", limit)) == ordered[::-1]
    wanted = data.draw(st.none() | values)
    equal = [s for s in states.values() if (s.value is None) == (wanted is None) and same(s.value, wanted, compared)]
    assert asyncio.run(pages(indexes, {"value": wanted}, None, limit)) == sorted(equal, key=lambda state: state.name)


def same(value: Any, wanted: Any, compared: Any) -> bool:
    return value is None or compared(value) == compared(wanted)


async def pages(indexes: Indexes, filters: dict[str, Any], order: str | None, limit: int) -> list[Any]:
    items: list[Any] = []
    after: str | None = None
    while True:
        page = await indexes.page(filters, order, limit, after)
        items += page.items
        if page.next is None:
            return items
        after = page.next


NAIVE = datetime.fromisoformat("2026-01-01T00:00:00")


class Mixed(enum.Enum):
    ONE = 1
    TEXT = "x"


class Half(enum.Enum):
    HALF = 0.5


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (datetime, r"Annotated\[datetime, msgspec.Meta\(tz=True\)\]"),
        (datetime | None, r"may have datetimes without a time zone"),
        (Annotated[datetime, Meta(tz=False)], r"without a time zone"),
        (time, "have no order"),
        (timedelta, "have no order"),
        (bytes, "have no order"),
        (list[str], "have no order"),
        (dict[str, int], "have no order"),
        (Struct, "have no order"),
        (Any, "have no order"),
        (Mixed, "have no order"),
        (Half, "have no order"),
        (int | str, "have no order"),
        (bool | int, "have no order"),
        (Literal[1, "a"], "have no order"),
        (type(None), "have no order"),
    ],
)
@pytest.mark.parametrize("index", [Index("value"), Index(order="value")])
def test_a_field_whose_values_have_no_order_is_refused_at_import(kind: Any, text: str, index: Index) -> None:
    state = msgspec.defstruct("State", [("value", kind)], frozen=True)
    with pytest.raises(DeclarationError, match=f"Things: an index names State.value, .*{text}"):
        scales_of("Things", (index,), state)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (str, 5, "value = 5 is not a str"),
        (int, "5", "value = '5' is not an int"),
        (int, True, "value = True is not an int"),
        (int, float("nan"), "value = nan is NaN, which has no order"),
        (float, Decimal(1), r"value = Decimal\('1'\) is not a number"),
        (bool, 1, "value = 1 is not a bool"),
        (date, datetime(2026, 1, 1, tzinfo=UTC), "is not a date"),
        (Aware, date(2026, 1, 1), "is not an aware datetime"),
        (Aware, NAIVE, "has no time zone"),
        (Aware, "2026-01-01T00:00:00Z", "is not an aware datetime"),
        (Decimal, 1.5, "value = 1.5 is not a Decimal"),
        (Decimal, Decimal("sNaN"), "is NaN, which has no order"),
        (UUID, "7b0e1e6c-0000-4000-8000-000000000000", "is not a UUID"),
        (Color, Name.ANN, "is not a Color"),
        (Color, 5, "value = 5 is not a Color"),
        (Level, "1", "value = '1' is not a Level"),
        (str, [], r"value = \[\] is not a str"),
    ],
)
def test_the_value_of_a_filter_must_be_of_the_type_of_its_field(kind: Any, value: Any, text: str) -> None:
    _, plan = declared(kind)
    with pytest.raises(DeclarationError, match=f"things: list: .*{text}"):
        plan.select({"value": value}, None, 10, None)


def test_an_enum_is_filtered_by_its_members_or_their_values() -> None:
    _, plan = declared(Color)
    for value in (Color.RED, "red"):
        assert plan.select({"value": value}, None, 10, None).group == "red"
    _, plan = declared(Level)
    for number in (Level.HIGH, 10):
        assert plan.select({"value": number}, None, 10, None).group == 10


def test_a_page_token_of_a_list_with_another_type_is_refused() -> None:
    stored = {"str": "x", "int": 5, "decimal": "1.5", "nothing": None, "float": 1.5, "text": "not a number"}
    accepted = {"str": {"x", "1.5", "not a number"}, "int": {5, 1.5}, "decimal": {"1.5"}, "date": {5}, "datetime": {5}}
    for kind, values in accepted.items():
        _, plan = declared(KINDS[kind][0])
        for value in stored.values():
            try:
                plan.load(0, (value is not None, value, "k"))
            except ValueError:
                assert value not in values, (kind, value)
            else:
                assert value is None or value in values, (kind, value)
    _, plan = declared(int)
    token = plan.token(0, (True, 5, "k"))
    assert plan.select({}, "value", 10, token).after == (True, 5, "k")
    with pytest.raises(InvalidMessage, match="page token"):
        plan.select({"value": 5}, "name", 10, token)


class Event(Struct, frozen=True, omit_defaults=True):
    name: str
    at: Aware = NAIVE  # a default is not checked when a state is read
    price: Decimal = Decimal(0)
    size: float = 0.0


class PutEvent(Command[None], actor="events-by-type", key="name"):
    name: str
    fault: str = ""


class ListEvents(Query[Page[Event]], actor="events-by-type"):
    order: str


class Events(Actor[Event], indexes=[Index(order="at"), Index("price"), Index(order="price"), Index(order="size")]):
    name = "events-by-type"

    @command
    async def put(self, message: PutEvent) -> None:
        event = Event(message.name, datetime(2026, 1, 1, tzinfo=UTC))
        match message.fault:
            case "naive":
                event = Event(message.name)
            case "nan" | "sNaN":
                event = msgspec.structs.replace(event, price=Decimal(message.fault))
            case _:
                event = msgspec.structs.replace(event, price=Decimal("Infinity"))
        self.state = event

    @query
    async def list_events(self, message: ListEvents) -> Page[Event]:
        return await self.list(order=message.order, limit=2)


@pytest.mark.parametrize("fault", ["naive", "nan", "sNaN"])
async def test_a_turn_that_leaves_a_value_without_an_order_fails_before_its_commit(fault: str) -> None:
    events = worker(Events, key="a")
    with pytest.raises(InvalidValue, match=r"the state has no place in an index: Event\.(at|price) = .*(zone|NaN)"):
        await events.put(PutEvent("a", fault))
    assert events.state is None


async def test_a_key_stays_in_lists_after_a_turn_that_left_a_value_without_an_order(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Events, url=nats_server.url, namespace=namespace) as system:
        for name in ("a", "b", "c"):
            await system.bus.command(PutEvent(name))
        for fault in ("naive", "nan", "sNaN"):
            with pytest.raises(HandlerFailed) as raised:
                await system.bus.command(PutEvent("b", fault))
            assert raised.value.executed is False
        for order in ("at", "-at", "price", "-price"):
            page = await system.bus.query(ListEvents(order))
            assert len(page.items) == 2 and page.next is not None


def test_a_record_whose_value_has_no_order_is_listed_as_one_without_a_value() -> None:
    plan = Declared("events", Events.indexes, Events.scales)
    state = Event("a", price=Decimal("NaN"))
    states = {"a": state}

    async def read(tokens: list[str]) -> list[Any]:
        return [states[token] for token in tokens]

    indexes = Indexes(plan, read)
    indexes.update("a", state)
    for order in ("at", "-price"):
        assert asyncio.run(indexes.page({}, order, 10, None)).items == [state]
    assert asyncio.run(indexes.page({"price": None}, None, 10, None)).items == []
    indexes.update("a", None)
    assert len(indexes) == 0
