"""Indexes: against a simple model, and on a server during changes and after a restart."""

import asyncio
import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import Actor, Command, DeclarationError, Index, InvalidMessage, Page, Query, command, query
from runtime.actor.indexes import scales_of
from runtime.nats.server import EmbeddedServer
from runtime.storage.index import Indexes
from runtime.storage.listing import Declared
from runtime.testing import running

COLORS = ("red", "green", None)


class Card(msgspec.Struct, frozen=True):
    name: str
    color: str | None = None
    rank: int | None = None


INDEXES = (
    Index(),
    Index("color", order="rank"),
    Index(order="rank"),
    Index("rank", order="name"),
    Index(("rank", "color"), order="name"),
)
STATES = st.none() | st.builds(Card, st.just(""), st.sampled_from(COLORS), st.none() | st.integers(0, 4))
STEPS = st.lists(st.tuples(st.sampled_from([f"k{n}" for n in range(8)]), STATES), max_size=40)
LISTS: list[tuple[dict[str, Any], str | None]] = [
    ({}, None), ({}, "rank"), ({}, "-rank"), ({"color": "red"}, "rank"), ({"color": None}, "-rank"), ({"rank": 2}, "name"), ({"rank": 2}, "-name"), ({"color": "red", "rank": 2}, "name"), ({"rank": None, "color": None}, "-name"), ({"color": None, "rank": 2}, None),
]  # fmt: skip


def indexes_of(states: dict[str, Card]) -> Indexes:
    async def read(tokens: list[str]) -> list[Any]:
        return [states.get(token) for token in tokens]

    return Indexes(Declared("cards", INDEXES, scales_of("Cards", INDEXES, Card)), read)


async def pages(indexes: Indexes, filters: dict[str, Any], order: str | None, limit: int) -> list[Any]:
    items: list[Any] = []
    after: str | None = None
    while True:
        page = await indexes.page(filters, order, limit, after)
        assert len(page.items) <= limit
        items += page.items
        if page.next is None:
            return items
        assert len(page.items) == limit
        after = page.next


def simple_list(states: dict[str, Card], filters: dict[str, Any], order: str | None) -> list[Card]:
    """Filter and sort. States without a value come first, and keys break ties."""
    found = [
        (token, state) for token, state in states.items() if all(getattr(state, k) == v for k, v in filters.items())
    ]
    by = (order or "").lstrip("-")

    def position(item: tuple[str, Card]) -> tuple[Any, ...]:
        value = getattr(item[1], by) if by else None
        return (value is not None, value or 0 if by == "rank" else value or "", item[0])

    return [state for _, state in sorted(found, key=position, reverse=(order or "").startswith("-"))]


@given(STEPS, st.integers(1, 5))
def test_lists_equal_those_of_a_simple_model(steps: list[tuple[str, Card | None]], limit: int) -> None:
    states: dict[str, Card] = {}
    indexes = indexes_of(states)
    for token, state in steps:
        if state is None:
            states.pop(token, None)
        else:
            states[token] = state = msgspec.structs.replace(state, name=token)
        indexes.update(token, state)
    assert len(indexes) == len(states)
    for filters, order in LISTS:
        found = asyncio.run(pages(indexes, filters, order, limit))
        assert found == simple_list(states, filters, order), (filters, order)
    for token in list(states):
        indexes.update(token, None)
    assert all(not groups for groups in indexes._groups), "nothing is left of deleted keys"


@given(STEPS, STEPS, st.integers(1, 3))
def test_an_unchanged_key_is_listed_once_while_others_move(
    first: list[tuple[str, Card | None]], second: list[tuple[str, Card | None]], limit: int
) -> None:
    states = {f"stay{n}": Card(f"stay{n}", "red", n % 3) for n in range(7)}
    indexes = indexes_of(states)
    for token, state in states.items():
        indexes.update(token, state)
    moves = iter(first + second)

    async def read() -> list[Card]:
        found: list[Card] = []
        after: str | None = None
        while True:
            page: Page[Card] = await indexes.page({"color": "red"}, "rank", limit, after)
            found += [card for card in page.items if card.name.startswith("stay")]
            if page.next is None:
                return found
            after = page.next
            for token, state in [move for move in [next(moves, None), next(moves, None)] if move]:
                states.pop(token, None)
                if state is not None:
                    states[token] = state
                indexes.update(token, state)

    found = asyncio.run(read())
    assert sorted(card.name for card in found) == sorted(f"stay{n}" for n in range(7))


def token(value: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode().rstrip("=")


@pytest.mark.parametrize(
    "after",
    [
        "",
        "x",
        "%",
        "ü",
        "A" * 5000,
        token([1]),
        token([True, "red", "k"]),
        token([True, {}, "k"]),
        token([False, 5, "k"]),
        token([True, 2, 3]),
        token([True, [1], "k"]),
        token([True, None, "k"]),
        token({"a": 1}),
    ],
)
@pytest.mark.parametrize("order", ["rank", "-rank"])
def test_an_invalid_page_token_is_refused(after: str, order: str) -> None:
    states = {f"k{n}": Card(f"k{n}", "red", n) for n in range(5)}
    indexes = indexes_of(states)
    for key, state in states.items():
        indexes.update(key, state)
    if after == "":
        assert len(asyncio.run(indexes.page({}, order, 10, after)).items) == 5
        return
    with pytest.raises(InvalidMessage, match="the page token is not one that a list gave out"):
        asyncio.run(indexes.page({}, order, 10, after))


def test_a_list_needs_a_declared_index() -> None:
    indexes = indexes_of({})
    for filters, order, text in [
        ({"name": "x"}, None, r"needs a declared Index\('name'\)"),
        ({"color": "red"}, "name", r"needs a declared Index\('color', order='name'\)"),
        ({"name": "x", "color": "red"}, "rank", r"needs a declared Index\(\('color', 'name'\), order='rank'\)"),
        ({"color": "red", "rank": 1}, "rank", r"needs a declared Index\(\('color', 'rank'\), order='rank'\)"),
        ({"color": 5, "rank": 1}, None, r"list: color = 5 is not a str"),
    ]:
        with pytest.raises(DeclarationError, match=text):
            asyncio.run(indexes.page(filters, order, 10, None))


@pytest.mark.parametrize(("limit", "expected"), [(-1, 1), (0, 1), (3, 3), (10**9, 7)])
def test_the_size_of_a_page_is_bounded(limit: int, expected: int) -> None:
    states = {f"k{n}": Card(f"k{n}") for n in range(7)}
    indexes = indexes_of(states)
    for key, state in states.items():
        indexes.update(key, state)
    assert len(asyncio.run(indexes.page({}, None, limit, None)).items) == expected


class PutCard(Command[Card], actor="cards", key="name"):
    name: str
    rank: int = 0


class DropCard(Command[None], actor="cards", key="name"):
    name: str


class ListCards(Query[Page[Card]], actor="cards"):
    limit: int = 20
    after: str | None = None


class Cards(Actor[Card], indexes=[Index(order="rank")]):
    name = "cards"

    @command
    async def put(self, message: PutCard) -> Card:
        self.state = Card(message.name, "red", message.rank)
        return self.state

    @command
    async def drop(self, message: DropCard) -> None:
        self.state = None

    @query
    async def list_cards(self, message: ListCards) -> Page[Card]:
        return await self.list(order="rank", limit=message.limit, after=message.after)


async def test_a_list_includes_every_turn_that_was_committed_before_it(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Cards, url=nats_server.url, namespace=namespace) as system:
        bus = system.bus

        async def put(number: int) -> None:
            await bus.command(PutCard(f"k{number}", number))
            names = {card.name for card in (await bus.query(ListCards(1000))).items}
            assert f"k{number}" in names

        await asyncio.gather(*(put(number) for number in range(60)))
        await bus.command(DropCard("k3"))
        listed = (await bus.query(ListCards(1000))).items
        assert [card.rank for card in listed] == [n for n in range(60) if n != 3]


async def test_pages_list_each_key_once_while_keys_are_added(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Cards, url=nats_server.url, namespace=namespace) as system:
        bus = system.bus
        await asyncio.gather(*(bus.command(PutCard(f"k{number}", number * 10)) for number in range(40)))
        seen: list[str] = []
        page = await bus.query(ListCards(7))
        extra = 0
        while True:
            seen += [card.name for card in page.items]
            if page.next is None:
                break
            await asyncio.gather(*(bus.command(PutCard(f"new{extra + n}", (extra + n) * 13)) for n in range(5)))
            extra += 5
            page = await bus.query(ListCards(7, page.next))
        assert len(seen) == len(set(seen))
        assert {f"k{number}" for number in range(40)} <= set(seen)


async def test_a_restart_rebuilds_the_indexes_without_deleted_keys(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Cards, url=nats_server.url, namespace=namespace) as system:
        await asyncio.gather(*(system.bus.command(PutCard(f"k.{number}", number)) for number in range(30)))
        await asyncio.gather(*(system.bus.command(PutCard(f"k.{number}", 100 - number)) for number in range(10)))
        await system.bus.command(DropCard("k.20"))
    async with running(Cards, url=nats_server.url, namespace=namespace) as system:
        listed = (await system.bus.query(ListCards(1000))).items
        assert [card.rank for card in listed] == [*(n for n in range(10, 30) if n != 20), *range(91, 101)]


async def test_a_caller_with_an_invalid_page_token_gets_invalid_message(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Cards, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(PutCard("a", 1))
        with pytest.raises(InvalidMessage, match="page token"):
            await system.bus.query(ListCards(5, token([True, "text", "k"])))
