"""Dead letters: their contents, and redrives, which reach one reaction and take effect once."""

import asyncio
import json
from collections import Counter as Tally
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, Event, Options, Query, RetryPolicy, command, query, react
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.storage.dead_letters import DeadLetter, DeadLetters, Failure, Selection, known_services, read_failure
from runtime.testing import System, running
from runtime.wire import header_block
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names, published
from tests.support.process import run_command

OPTIONS = Options(retry=RetryPolicy(attempts=2, first=0.01, longest=0.02))
FAILING: set[str] = set()
"""Names of the methods that fail at present."""
RUNS: Tally[str] = Tally()


@pytest.fixture(autouse=True)
def _clean() -> None:
    FAILING.clear()
    RUNS.clear()


class Payee(msgspec.Struct, frozen=True):
    name: str


class Paid(Event, actor="shop", key="order"):
    order: str
    amount: int = 1
    how: str = "cash"
    to: Payee | None = None


class Sum(msgspec.Struct, frozen=True):
    total: int = 0


class GetSum(Query[int], actor="books", key="order"):
    order: str


class Note(Command[None], actor="books", key="order"):
    order: str


class NoteLater(Command[None], actor="books", key="order"):
    order: str


def run(name: str) -> None:
    RUNS[name] += 1
    if name in FAILING:
        raise RuntimeError(f"{name} fails: no paper")


class Books(Actor[Sum]):
    """Reacts to the same event with several methods."""

    name = "books"
    options = OPTIONS

    @react
    async def on_paid(self, event: Paid) -> None:
        run("on_paid")
        self.state = Sum((self.state or Sum()).total + event.amount)

    @react
    async def on_paid_also(self, event: Paid) -> None:
        run("on_paid_also")

    @react(key="to.name", where={"how": ["transfer"]})
    async def on_paid_to(self, event: Paid) -> None:
        run("on_paid_to")

    @command
    async def note_later(self, message: NoteLater) -> None:
        self.remind(0.0, Note(message.order))

    @command
    async def note(self, message: Note) -> None:
        run("note")
        self.state = Sum((self.state or Sum()).total + 100)

    @query
    async def get_sum(self, message: GetSum) -> int:
        return self.state.total if self.state else 0


class Post(Actor):
    """An actor without state that reacts to the same event."""

    name = "post"
    options = OPTIONS

    @react
    async def on_paid_send(self, event: Paid) -> None:
        run("on_paid_send")


class Desk:
    """The dead letters of one actor, as an operator sees them."""

    def __init__(self, system: System, actor: str, namespace: str) -> None:
        self.letters = DeadLetters(JetStream(system.connection), Names(actor, namespace))
        self.system = system
        self.names = Names(actor, namespace)

    async def all(self) -> list[DeadLetter]:
        return [letter async for letter in self.letters.read()]

    async def at_least(self, count: int = 1) -> list[DeadLetter]:
        async def found() -> list[DeadLetter]:
            letters = await self.all()
            return letters if len(letters) >= count else []

        return await self.system.until(found)

    async def until_empty(self) -> None:
        """Wait until the stream has neither dead letters nor redriven ones."""

        async def nothing() -> bool:
            info = await JetStream(self.system.connection).stream_info(self.names.dead_stream)
            return info.state.messages == 0

        await self.system.until(nothing)


@pytest.fixture
async def shop(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[System]:
    async with running(Books, Post, url=nats_server.url, namespace=namespace, sources=["shop"]) as system:
        yield system


async def test_a_dead_letter_keeps_body_headers_and_failure_of_the_original(shop: System, namespace: str) -> None:
    FAILING.add("on_paid")
    event_id = await shop.bus.emit(Paid("1", 5))
    (letter,) = await Desk(shop, "books", namespace).at_least()
    assert (letter.service, letter.name) == ("books", "paid")
    assert json.loads(letter.payload) == {"order": "1", "amount": 5, "how": "cash", "to": None}
    assert letter.headers["ce-id"] == event_id and letter.headers["ce-type"] == "shop.Paid"
    assert "traceparent" in letter.headers and not [name for name in letter.headers if name.startswith("Nats-")]
    failure = letter.failure
    assert failure.reason == "RuntimeError: on_paid fails: no paper"
    assert (failure.attempts, failure.reaction, failure.id) == (2, "on_paid", f"{event_id}.on_paid")
    assert (failure.subject, failure.stream) == (f"{namespace}.shop.event.paid.1", f"{namespace}-shop-events")
    assert failure.sequence == 1


@pytest.mark.parametrize(("actor", "reaction"), [("books", "on_paid"), ("post", "on_paid_send")])
async def test_a_redrive_reaches_only_the_reaction_that_gave_up(
    shop: System, namespace: str, actor: str, reaction: str
) -> None:
    desk = Desk(shop, actor, namespace)
    FAILING.add(reaction)
    await shop.bus.emit(Paid("1", 5))
    (letter,) = await desk.at_least()
    await shop.until(
        lambda: sum(RUNS.values()) == 4
    )  # two attempts of the failing reaction, one of each of the two others
    trace_id = letter.headers["traceparent"].split("-")[1]

    FAILING.clear()
    RUNS.clear()
    assert await desk.letters.redrive(letter.sequence)
    await desk.until_empty()
    assert dict(RUNS) == {reaction: 1}
    assert await shop.bus.query(GetSum("1")) == 5
    spans = {span.name for span in shop.trace_of(trace_id)}
    assert f"process {namespace}.{actor}.redrive.paid.{{key}}" in spans
    assert not await desk.letters.redrive(letter.sequence)


async def test_a_redriven_message_that_fails_is_a_dead_letter_again(shop: System, namespace: str) -> None:
    desk = Desk(shop, "books", namespace)
    FAILING.add("on_paid")
    await shop.bus.emit(Paid("1"))
    (first,) = await desk.at_least()
    for _ in range(2):
        RUNS.clear()
        assert await desk.letters.redrive(first.sequence)

        async def newer(known: DeadLetter = first) -> DeadLetter | None:
            return next((letter for letter in await desk.all() if letter.sequence != known.sequence), None)

        second = await shop.until(newer)
        assert (second.failure, second.headers, second.payload) == (first.failure, first.headers, first.payload)
        assert RUNS["on_paid"] == 2
        first = second
    assert len(await desk.all()) == 1


async def test_concurrent_redrives_and_a_copy_take_effect_once(shop: System, namespace: str) -> None:
    desk = Desk(shop, "books", namespace)
    FAILING.add("on_paid")
    await shop.bus.emit(Paid("1", 5))
    (letter,) = await desk.at_least()
    FAILING.clear()
    RUNS.clear()
    assert any(await asyncio.gather(*(desk.letters.redrive(letter.sequence) for _ in range(5))))
    await desk.until_empty()
    assert RUNS["on_paid"] == 1
    # Later, a copy is published. The key has handled more messages by then than its record lists.
    for _ in range(30):
        await shop.bus.emit(Paid("1", 1))
    await shop.until(lambda: RUNS["on_paid"] == 31)
    jetstream = JetStream(shop.connection)
    dead = {f"Dead-{field.capitalize()}": str(value) for field, value in msgspec.structs.asdict(letter.failure).items()}
    block = header_block.encode([*letter.headers.items(), *dead.items()])
    await jetstream.publish(desk.names.redrive("paid", "1"), letter.payload, headers=block)
    await desk.until_empty()
    assert RUNS["on_paid"] == 31 and await shop.bus.query(GetSum("1")) == 35


async def test_a_redriven_timer_returns_to_its_key(shop: System, namespace: str) -> None:
    desk = Desk(shop, "books", namespace)
    FAILING.add("note")
    await shop.bus.command(NoteLater("a b"))
    (letter,) = await desk.at_least()
    assert (letter.name, letter.failure.reaction) == ("note", "note")
    assert ".timer.a%20b." in letter.failure.subject
    FAILING.clear()
    await desk.letters.redrive(letter.sequence)
    await desk.until_empty()
    assert await shop.bus.query(GetSum("a b")) == 100


async def test_a_redrive_to_an_unknown_reaction_is_a_dead_letter_with_that_reason(shop: System, namespace: str) -> None:
    desk = Desk(shop, "books", namespace)
    FAILING.add("on_paid")
    await shop.bus.emit(Paid("1"))
    (letter,) = await desk.at_least()
    pairs = [("Dead-Reaction", "on_gone"), ("Dead-Id", "x.on_gone"), ("ce-id", "x")]
    await JetStream(shop.connection).publish(desk.names.redrive("paid", "1"), b"{}", headers=header_block.encode(pairs))
    letters = await desk.at_least(2)
    other = next(each for each in letters if each.sequence != letter.sequence)
    assert other.failure.reason == "this version of books has no reaction 'on_gone'"
    assert (other.name, other.failure.id, other.headers) == ("paid", "x.on_gone", {"ce-id": "x"})


async def test_odd_headers_stop_neither_the_reaction_nor_its_dead_letters(shop: System, namespace: str) -> None:
    desk = Desk(shop, "books", namespace)
    jetstream = JetStream(shop.connection)
    subject = f"{namespace}.shop.event.paid.1"
    # A header cannot hold an id of two lines. The headers below, with those of the dead letter, exceed 64 KiB.
    await jetstream.publish(subject, b"{}", headers=b"NATS/1.0\r\nce-id: a\nb\r\n\r\n")
    assert all("\n" not in letter.failure.id for letter in await desk.at_least(2))
    long = b"NATS/1.0\r\nfirst: 1\r\nlong: %b\r\nlast: 2\r\n\r\n" % (b"x" * 65_000)
    await jetstream.publish(subject, b"{}", headers=long)
    letters = await desk.at_least(4)
    assert letters[-1].headers == {"first": "1", "last": "2"}


@pytest.mark.parametrize(
    "lines",
    [
        {"Dead-Reaction": "on_paid", "Dead-Sequence": "9" * 5000, "Dead-Id": "x" * 2000},
        {"Dead-Reaction": "on_gone", "Dead-Id": "a\nb"},
    ],
)
async def test_an_invalid_message_on_the_redrive_subject_becomes_a_dead_letter(
    shop: System, namespace: str, lines: dict[str, str]
) -> None:
    desk = Desk(shop, "books", namespace)
    block = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    body = b'{"order":"1","amount":1,"key":"1"}'
    await JetStream(shop.connection).publish(
        desk.names.redrive("paid", "1"), body, headers=f"NATS/1.0\r\n{block}\r\n".encode()
    )
    (letter,) = await desk.at_least()
    assert letter.failure.reaction == lines["Dead-Reaction"] and letter.failure.sequence == 0


async def test_a_redriven_timer_runs_under_the_key_of_its_command(shop: System, namespace: str) -> None:
    desk = Desk(shop, "books", namespace)
    pairs = [("Dead-Reaction", "note"), ("Dead-Subject", f"{namespace}.books.timer.%ZZ.x"), ("Dead-Id", "x")]
    body = b'{"order":"of the command"}'
    await JetStream(shop.connection).publish(desk.names.redrive("note", "1"), body, headers=header_block.encode(pairs))
    await desk.until_empty()
    assert await shop.bus.query(GetSum("of the command")) == 100


async def test_an_undecodable_event_is_a_dead_letter_of_each_reaction(shop: System, namespace: str) -> None:
    desk = Desk(shop, "books", namespace)
    jetstream = JetStream(shop.connection)
    block = (
        b"NATS/1.0\r\nce-id: e1\r\nodd: a\nb\r\nNats-Trace-Dest: x\r\nDead-Id: forged\r\nDead-Reason: forged\r\n\r\n"
    )
    await jetstream.publish(f"{namespace}.shop.event.paid.1", b'{"order": 5}', headers=block)
    # The third reaction has a pattern, which does not match.
    letters = await desk.at_least(2)
    assert {(each.failure.reaction, each.failure.id) for each in letters} == {
        ("on_paid", "e1.on_paid"),
        ("on_paid_also", "e1.on_paid_also"),
    }
    assert {each.failure.attempts for each in letters} == {1}
    assert all("`$.order`" in each.failure.reason and each.headers == {"ce-id": "e1"} for each in letters)
    assert not RUNS


async def test_an_event_with_an_absent_or_too_long_key_is_a_dead_letter(shop: System, namespace: str) -> None:
    desk = Desk(shop, "books", namespace)
    await shop.bus.emit(Paid("1", how="transfer", to=Payee("")))
    await shop.until(lambda: RUNS["on_paid_to"] == 1)
    await shop.bus.emit(Paid("1", how="transfer"))
    await shop.bus.emit(Paid("1", how="transfer", to=Payee("x" * 2000)))
    letters = await desk.at_least(2)
    assert {each.failure.reaction for each in letters} == {"on_paid_to"}
    assert ["has no key: 'to.name'" in letters[0].failure.reason, "is too long" in letters[1].failure.reason] == [
        True,
        True,
    ]


async def test_an_actor_receives_redriven_messages_when_it_starts(nats_server: EmbeddedServer, namespace: str) -> None:
    FAILING.add("on_paid")
    async with running(Books, url=nats_server.url, namespace=namespace, sources=["shop"]) as system:
        for number in range(10):
            await system.bus.emit(Paid(str(number), 7))
        await Desk(system, "books", namespace).at_least(10)
    FAILING.clear()
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        letters = DeadLetters(JetStream(connection), Names("books", namespace))
        sequences = [letter.sequence async for letter in letters.read()]
        # Two operators at the same time: each dead letter is sent once, and none is lost.
        await asyncio.gather(*(letters.redrive(sequence) for sequence in sequences * 2))
        info = await JetStream(connection).stream_info(Names("books", namespace).dead_stream, subjects=">")
        assert Tally(map(published, info.state.subjects)) == {
            f"{namespace}.books.redrive.paid.{number}": 1 for number in range(10)
        }
    async with running(Books, url=nats_server.url, namespace=namespace, sources=["shop"]) as system:
        await Desk(system, "books", namespace).until_empty()
        assert [await system.bus.query(GetSum(str(number))) for number in range(10)] == [7] * 10


def letter(**fields: Any) -> DeadLetter:
    failure = read_failure(header_block.encode([("Dead-Reason", fields.pop("reason", "TimeoutError: no answer"))]))
    return DeadLetter("books", 1, fields.pop("name", "order_paid"), fields.pop("time", 100.0), failure, {}, b"{}")


@pytest.mark.parametrize(
    ("selection", "selected"),
    [
        (Selection(), True),
        (Selection(event="order_paid"), True),
        (Selection(event="OrderPaid"), True),
        (Selection(event="order"), False),
        (Selection(reason="timeout"), True),
        (Selection(reason="^no answer"), False),
        (Selection(reason="Error.*answer$"), True),
        (Selection(since=100.0), True),
        (Selection(since=100.1), False),
        (Selection(before=100.0), False),
        (Selection(before=100.1, event="paid"), False),
    ],
)
def test_a_selection_matches_letters_that_match_every_field(selection: Selection, selected: bool) -> None:
    assert selection.matches(letter()) is selected


@pytest.mark.parametrize(
    "block", [None, b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\nDead-Attempts: \xc2\xb2\r\nDEAD-ID: x\r\n\r\n"]
)
def test_missing_or_invalid_headers_are_read_as_empty_fields(block: bytes | None) -> None:
    failure = read_failure(block)
    assert (failure.attempts, failure.sequence, failure.subject) == (0, 0, "")


async def test_the_known_services_of_a_namespace_are_those_that_have_run(shop: System, namespace: str) -> None:
    jetstream = JetStream(shop.connection)
    assert await known_services(jetstream, namespace) == ["books", "post"]
    assert await known_services(jetstream, new_id()) == []


async def test_the_dlq_commands(shop: System, nats_server: EmbeddedServer, namespace: str, tmp_path: Path) -> None:
    async def dlq(*arguments: str) -> tuple[int, str, str]:
        result = await run_command(
            "dlq", *arguments, "--nats", nats_server.url, "--namespace", namespace, cwd=tmp_path
        )  # fmt: skip
        return result.code, result.out, result.err

    assert await dlq("ls") == (0, "", "no dead letters\n")
    FAILING.update(("on_paid", "on_paid_send"))
    books, post = Desk(shop, "books", namespace), Desk(shop, "post", namespace)
    for number in (1, 2):
        await shop.bus.emit(Paid(str(number), 5))
        await books.at_least(number)
        await post.at_least(number)
    one, two = await books.all()

    code, out, _ = await dlq("ls")
    head, *rows = (line.split() for line in out.splitlines())
    assert code == 0 and head == ["letter", "since", "name", "key", "reaction", "attempts", "reason"]
    assert [row[0] for row in rows[:2]] == [one.id, two.id] and len(rows) == 4
    assert [row[head.index("key")] for row in rows] == ["1", "2"] * 2
    code, out, err = await dlq("ls", "--limit", "1", "--json", "--service", "books", "--reason", "NO PAPER")
    assert [(each["letter"], each["key"]) for each in json.loads(out)] == [(one.id, "1")] and "there are more" in err
    assert json.loads((await dlq("ls", "--json", "--before", "1h"))[1]) == []
    assert len(json.loads((await dlq("ls", "--json", "--since", "1h", "--event", "Paid"))[1])) == 4

    code, out, _ = await dlq("show", one.id)
    shown = json.loads(out)
    assert (shown["body"]["order"], shown["reaction"], shown["attempts"]) == ("1", "on_paid", 2)
    assert shown["headers"]["ce-type"] == "shop.Paid" and len(shown["trace"]) == 32

    FAILING.clear()
    assert (await dlq("redrive", one.id))[::2] == (0, "1 redriven\n")
    await shop.until(lambda: _sum_is(shop, "1", 5))
    assert (await dlq("redrive", "--service", "books"))[::2] == (0, "1 redriven\n")
    await books.until_empty()
    assert (await dlq("drop", "--all"))[::2] == (0, "2 dropped\n")
    await post.until_empty()
    assert await shop.bus.query(GetSum("2")) == 5


async def _sum_is(shop: System, order: str, expected: int) -> bool:
    return await shop.bus.query(GetSum(order)) == expected


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["redrive"], 2, "no dead letters selected"),
        (["drop", "--limit", "5"], 2, "no dead letters selected"),
        (["drop", "books:1", "--all"], 2, "not both"),
        (["show", "books"], 2, "write service:sequence"),
        (["show", "x.y:1"], 2, "write service:sequence"),
        (["show", "books:999"], 4, "no dead letter books:999 exists"),
        (["show", "nobody:1"], 4, "no dead letter nobody:1 exists"),
        (["redrive", "books:999"], 4, "no dead letter books:999 exists"),
        (["ls", "--service", "boks"], 4, "boks: no such service"),
        (["ls", "--reason", "("], 2, "is not a regular expression"),
        (["ls", "--since", "yesterday"], 2, "write 30m, 2h, 7d"),
    ],
)
async def test_a_failing_dlq_command_says_why(
    nats_server: EmbeddedServer, tmp_path: Path, arguments: list[str], code: int, text: str
) -> None:
    result = await run_command("dlq", *arguments, "--nats", nats_server.url, "--namespace", "none-here", cwd=tmp_path)
    assert result.code == code and text in " ".join(result.err.split()) and "Traceback" not in result.err


@pytest.mark.parametrize(
    ("subject", "token"),
    [
        ("t1.shop.event.paid.ann", "ann"),
        ("books.tell.note.b%2Fc", "b%2Fc"),
        ("books.timer.ann.wake", "ann"),
        ("books.p2-1.timer.ann.wake", "ann"),
        ("foreign.subject", "_"),
    ],
)
def test_a_letter_has_the_key_in_the_subject_of_its_message(subject: str, token: str) -> None:
    failure = Failure("OSError", 1, subject, "stream", 1, "note", "id")
    assert DeadLetter("books", 1, "note", 100.0, failure, {}, b"{}").token == token
