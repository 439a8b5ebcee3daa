"""Sizes: the record of a turn is stored if it fits one message of NATS, however much earlier turns have left, or is refused."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, Event, Query, command, query, react
from runtime.errors import NotDelivered, TooLarge
from runtime.nats.server import EmbeddedServer
from tests.support.probe import Probe, running


class Text(msgspec.Struct, frozen=True):
    text: str


class Put(Command[str], actor="vault", key="name"):
    """Stores `state` bytes, replies with `reply` bytes, and emits one event for each number of `events`."""

    name: str
    state: int
    reply: int
    events: list[int] = []
    timer: int = 0


class Store(Command[str], actor="vault", key="name"):
    name: str
    text: str


class Ring(Command[None], actor="vault", key="name"):
    name: str
    text: str


class GetLength(Query[int], actor="vault", key="name"):
    name: str


class Stored(Event, actor="vault", key="name"):
    name: str
    text: str


class Asked(Event, actor="desk", key="name"):
    name: str
    state: int


class Post(Command[str], actor="desk"):
    reply: int
    events: list[int]


class Desk(Actor):
    """An actor without state. It also owns the stream of `Asked`."""

    name = "desk"

    @command
    async def post(self, message: Post) -> str:
        for size in message.events:
            self.emit(Posted("e" * size))
        return "r" * message.reply


class Posted(Event, actor="desk"):
    text: str


class Vault(Actor[Text]):
    name = "vault"

    @command
    async def put(self, message: Put) -> str:
        self.state = Text("s" * message.state)
        for size in message.events:
            self.emit(Stored(message.name, "e" * size))
        if message.timer:
            self.remind(3600, Ring(message.name, "t" * message.timer))
        return "r" * message.reply

    @command
    async def store(self, message: Store) -> str:
        self.state = Text(message.text)
        return message.text

    @command
    async def ring(self, message: Ring) -> None:
        pass

    @query
    async def get_length(self, message: GetLength) -> int:
        return len(self.state.text) if self.state else 0

    @react
    async def on_asked(self, event: Asked) -> None:
        self.state = Text("s" * event.state)


@pytest.fixture(params=["the default max_payload", "a small max_payload"])
async def vault(
    request: pytest.FixtureRequest, nats_server: EmbeddedServer, namespace: str, tmp_path: Any
) -> AsyncIterator[Probe]:
    if request.param == "the default max_payload":
        async with running(Vault, Desk, url=nats_server.url, namespace=namespace) as system:
            yield system
        return
    async with (
        EmbeddedServer(port=0, store_dir=tmp_path, config="max_payload: 65536") as server,
        running(Vault, Desk, url=server.url, namespace=namespace) as system,
    ):
        yield system


async def test_turns_of_nine_tenths_of_the_limit_are_all_stored(vault: Probe) -> None:
    limit = vault.connection.max_payload
    generator = random.Random(limit)
    shares = [(0.45, 0.45), (0.05, 0.85), (0.85, 0.05), (0.9, 0.0), (0.0, 0.9)]
    for number in range(100):
        if number >= len(shares):
            share = generator.uniform(0, 0.9)
            shares.append((share, 0.9 - share))
        state, reply = (int(share * limit) for share in shares[number])
        assert len(await vault.bus.command(Put("row", state, reply))) == reply
        assert await vault.bus.query(GetLength("row")) == state
    sizes = [(int(state * limit), int(reply * limit)) for state, reply in shares[:32]]
    replies = await asyncio.gather(*(vault.bus.command(Put("burst", *each), timeout=30) for each in sizes))
    assert [len(each) for each in replies] == [reply for _, reply in sizes]
    assert vault.restarts("vault") == 0


async def test_a_command_that_was_moved_out_of_the_record_gets_its_reply_again(vault: Probe) -> None:
    limit = vault.connection.max_payload
    sizes = [int(limit * share) for share in (0.4, 0.1, 0.45, 0.01, 0.4)]
    for number, size in enumerate(sizes):
        await vault.bus.command(Put("again", int(limit * 0.5), size), id=f"id-{number}")
    vault.forget("vault")
    for number, size in enumerate(sizes):
        assert await vault.bus.command(Put("again", int(limit * 0.5), size), id=f"id-{number}") == "r" * size


async def test_many_small_turns_beside_a_large_state_are_cut_into_several_commits(vault: Probe) -> None:
    limit = vault.connection.max_payload
    messages = [Put("cut", int(limit * 0.9), limit // 50, [limit // 100]) for _ in range(64)]
    replies = await asyncio.gather(*(vault.bus.command(each, timeout=30) for each in messages))
    assert len(replies) == 64
    assert len(await vault.stored_events("vault")) == 64


async def test_a_large_event_leaves_the_record_before_the_next_turn(vault: Probe) -> None:
    size = int(vault.connection.max_payload * 0.7)
    for _ in range(5):
        await vault.bus.command(Put("events", 10, 10, [size]))
    assert len(await vault.stored_events("vault")) == 5


async def test_a_450_kb_state_that_is_also_the_reply_at_eight_at_once(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Vault, Desk, url=nats_server.url, namespace=namespace) as system:
        texts = [chr(97 + number) * 450_000 for number in range(8)]
        assert await asyncio.gather(*(system.bus.command(Store("s", text), timeout=30) for text in texts)) == texts


async def test_a_turn_that_does_not_fit_one_message_is_refused_with_both_sizes(vault: Probe) -> None:
    limit = vault.connection.max_payload
    bus = vault.bus
    await bus.command(Put("big", 10, 10))
    half = limit // 2
    for message, words in (
        (Put("big", limit, 10), "the record would have"),
        (Put("big", half, half), "the record would have"),
        (Put("big", 10, 10, [half, half]), "the record would have"),
        (Put("big", 10, 10, [limit - 100]), "Stored: it would have"),
        (Put("big", 10, 10, timer=limit - 100), "Ring: it would have"),
    ):
        with pytest.raises(TooLarge) as refused:
            await bus.retry(message)
        error = refused.value
        assert (error.code, error.kind, error.executed) == (413, "TooLarge", False)
        size, most = (int(word.replace(",", "")) for word in str(error).split() if word[0].isdigit())
        assert words in str(error) and size > most > limit * 0.9
    # The turns beside a refused one are stored: they run again on the state that it leaves.
    messages = [Put("mixed", limit if number % 4 == 0 else number, number) for number in range(16)]
    found = await asyncio.gather(*(bus.command(each) for each in messages), return_exceptions=True)
    # A large state that the next turn of the same commit replaces is never stored, so it need not be refused.
    assert isinstance(found[0], TooLarge)
    assert all(isinstance(each, TooLarge) or len(each) == number for number, each in enumerate(found))
    assert not any(isinstance(each, TooLarge) for number, each in enumerate(found) if number % 4)
    assert await bus.query(GetLength("mixed")) == 15 and await bus.query(GetLength("big")) == 10


async def test_a_turn_of_an_actor_without_state_is_bounded_alike(vault: Probe) -> None:
    limit = vault.connection.max_payload
    half = limit // 2
    assert len(await vault.bus.command(Post(half, [limit // 3]), id="fits")) == half
    assert len(await vault.bus.command(Post(half, [limit // 3]), id="fits")) == half
    for message in (Post(half, [half]), Post(10, [half, half]), Post(10, [limit - 100])):
        with pytest.raises(TooLarge, match="would have"):
            await vault.bus.command(message)
    assert len(await vault.stored_events("desk")) == 1


async def test_an_event_whose_turn_does_not_fit_is_a_dead_letter_at_once(vault: Probe) -> None:
    await vault.bus.emit(Asked("a", vault.connection.max_payload))
    await vault.bus.emit(Asked("a", 7))

    async def stored() -> bool:
        return await vault.bus.query(GetLength("a")) == 7

    await vault.until(stored)
    (letter,) = await vault.stored_dead_letters("vault")
    assert b"Dead-Attempts: 1\r\n" in (letter.headers or b"") and b"TooLarge" in (letter.headers or b"")


async def test_a_record_above_the_limit_of_its_stream_is_refused(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Vault, Desk, url=nats_server.url, namespace=namespace) as system:
        stream = f"{namespace}-vault-turns"
        info = await system.jetstream.stream_info(stream)
        body = msgspec.json.encode({**info.config, "max_msg_size": 20_000})
        await system.connection.request(f"$JS.API.STREAM.UPDATE.{stream}", body, timeout=5)
        for _ in range(3):
            assert len(await system.bus.command(Put("a", 9_000, 9_000))) == 9_000
        with pytest.raises(TooLarge, match=r"the record would have 20,\d{3} bytes, and a message may have 19,\d{3}"):
            await system.bus.command(Put("a", 20_000, 0))


async def test_a_large_turn_waits_if_the_replies_before_it_cannot_leave_the_record(
    vault: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = vault.connection.max_payload
    dedup = vault.journal("vault").dedup
    finish = dedup._finish

    def fail(entries: Any, handled: Any, sequence: int, error: Exception | None) -> None:
        finish(entries, handled, 0, TimeoutError("on purpose"))

    monkeypatch.setattr(dedup, "_finish", fail)
    await vault.bus.command(Put("stuck", 10, limit // 2))
    with pytest.raises(NotDelivered, match="could not store"):
        await vault.bus.command(Put("stuck", limit // 2, limit // 4))
    monkeypatch.setattr(dedup, "_finish", finish)
    assert len(await vault.bus.command(Put("stuck", limit // 2, limit // 4))) == limit // 4
