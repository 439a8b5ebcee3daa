"""Refusals of a repartition, which leave everything as it was; older members; late commits of former owners."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator

import pytest

from runtime import Actor, ActorError, Command, ConfigurationError, PublishError, command
from runtime.admin.leases import hold
from runtime.admin.repartition import Refused, UnknownActor, examine, repartition
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import SECOND, StreamConfig
from runtime.nats.jetstream.errors import StreamConflict
from runtime.nats.server import EmbeddedServer
from runtime.storage.layout import Layouts
from runtime.wire import header_block
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token
from tests.admin.ledger import Book
from tests.support.probe import running
from tests.support.process import ROOT, run_command


class Note(Command[None], actor="plain"):
    pass


class Plain(Actor):
    """Has no state."""

    name = "plain"

    @command
    async def note(self, message: Note) -> None:
        pass


@pytest.fixture
async def jetstream(nats_server: EmbeddedServer) -> AsyncIterator[JetStream]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        yield JetStream(connection)


@pytest.fixture
async def book(nats_server: EmbeddedServer, namespace: str) -> Book:
    """A ledger that has run as one whole."""
    book = Book(nats_server.url, namespace, 6)
    async with book.running() as system:
        await book.add(system)
    return book


async def messages(jetstream: JetStream, names: Names) -> list[tuple[str, int]]:
    """Return the subject and sequence of each message in the stream of an actor."""
    return [(each.subject, each.sequence) async for each in jetstream.read(names.turns_stream, ">")]


async def check_untouched(jetstream: JetStream, names: Names, before: list[tuple[str, int]]) -> None:
    """Check that an actor of one whole is as it was: nothing is stored, closed, or created."""
    assert await messages(jetstream, names) == before
    await jetstream.publish(names.turn("probe"), b"{}")
    await jetstream.purge(names.turns_stream, names.turn("probe"), before[-1][1] + 1)
    assert [name for name in await jetstream.stream_names(f"{names.own}.>") if "-p8-" in name] == []


@pytest.mark.parametrize("partitions", [0, -1, 3, 65, 128])
async def test_a_number_that_is_no_power_of_two_is_refused(jetstream: JetStream, partitions: int) -> None:
    for act in (repartition, examine):
        with pytest.raises(ConfigurationError, match=f"partitions = {partitions}"):
            await act(jetstream, Names("ledger"), partitions)


async def test_an_actor_that_never_ran_is_unknown(jetstream: JetStream, namespace: str) -> None:
    with pytest.raises(UnknownActor, match="no actor of this name has run here"):
        await repartition(jetstream, Names("ledger", namespace), 8)


async def test_an_actor_without_state_is_refused(
    nats_server: EmbeddedServer, jetstream: JetStream, namespace: str
) -> None:
    async with running(Plain, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Note())
    with pytest.raises(Refused, match="plain has no state"):
        await repartition(jetstream, Names("plain", namespace), 8)


async def test_an_owner_that_lives_is_named(book: Book, jetstream: JetStream) -> None:
    async with book.running() as system:
        for act in (repartition, examine):
            with pytest.raises(Refused, match="ledger: an owner of partition 0 lives") as refused:
                await act(jetstream, book.names, 8)
            assert f"host {socket.gethostname()}, process {os.getpid()}" in str(refused.value)
        await book.check(system)


async def test_a_second_repartition_is_refused(book: Book, jetstream: JetStream) -> None:
    async with hold(jetstream, book.names, 1, 8, 1.0, 1, print):
        with pytest.raises(Refused, match=r"another repartition is under way .host .*, process"):
            await repartition(jetstream, book.names, 8)


async def test_one_of_two_that_begin_together_does_it(book: Book, jetstream: JetStream) -> None:
    both = await asyncio.gather(
        *(repartition(jetstream, book.names, 8, lease_ttl=1.0) for _ in range(2)), return_exceptions=True
    )
    done, other = sorted(both, key=lambda each: each is not True)
    assert done is True
    assert isinstance(other, Refused) and ("run the command again" in str(other) or "is under way" in str(other))
    async with book.running(8) as system:
        await book.check(system)


async def test_a_missing_stream_is_named(book: Book, jetstream: JetStream) -> None:
    await repartition(jetstream, book.names, 2)
    await jetstream.delete_stream(f"{book.names.turns_stream}-p2-1")
    for act in (repartition, examine):
        with pytest.raises(Refused, match="ledger-turns-p2-1 is missing: restore it"):
            await act(jetstream, book.names, 8)


@pytest.mark.parametrize(
    ("subject", "payload", "text"),
    [
        ("turn.account", b"{", "ledger.turn.account: the stored record is unreadable"),
        ("turn.a.b", b"{}", "ledger.turn.a.b: the subject is not that of a key"),
        ("turn.later", b'{"commit_id": "1", "format": 99}', "ledger.turn.later: .*newer version"),
    ],
)
async def test_a_record_that_cannot_be_read_is_named(
    book: Book, jetstream: JetStream, subject: str, payload: bytes, text: str
) -> None:
    await jetstream.publish(f"{book.names.own}.{subject}", payload)
    before = await messages(jetstream, book.names)
    for act in (repartition, examine):
        with pytest.raises(Refused, match=text):
            await act(jetstream, book.names, 8)
    await check_untouched(jetstream, book.names, before)


async def test_an_account_without_room_is_refused() -> None:
    config = "accounts { A: { jetstream: { max_file: 3000000 }, users: [{user: a, password: a}] } }\nno_auth_user: a"
    async with EmbeddedServer(port=0, config=config) as server:
        book = Book(server.url, "room", 6)
        async with book.running() as system:
            await book.add(system)
        async with book.jetstream() as jetstream:
            await jetstream.publish(book.names.dedup_entry("k", new_id()), b"x" * 900_000)
            before = await messages(jetstream, book.names)
            await jetstream.ensure_stream(StreamConfig(name="other", subjects=("other",)))
            for _ in range(2):
                await jetstream.publish("other", b"x" * 700_000)
            with pytest.raises(Refused, match=r"the copy needs .* bytes, and the account has"):
                await repartition(jetstream, book.names, 8)
            await check_untouched(jetstream, book.names, before)


@pytest.mark.parametrize("step", ["copying records", "comparing records"])
async def test_a_failure_is_undone(book: Book, jetstream: JetStream, step: str) -> None:
    """A record in a new stream is one that the tool has not copied."""

    def report(line: str) -> None:
        if line == step:
            key = key_token(book.keys[0]) if step == "copying records" else "foreign"
            for number in range(8):
                jetstream.connection.publish(f"{book.names.own}.p8-{number}.turn.{key}", b"{}")

    with pytest.raises(ActorError):
        await repartition(jetstream, book.names, 8, report=report)
    assert (await Layouts(jetstream, book.names).read())[0].partitions == 1
    assert [name for name in await jetstream.stream_names(f"{book.names.own}.>") if "-p8-" in name] == []
    async with book.running() as system:
        await book.check(system)
        await book.add(system)


async def test_a_late_commit_of_a_former_owner_is_refused(book: Book, jetstream: JetStream) -> None:
    stored = await jetstream.get_last(book.names.turns_stream, book.names.turn(key_token(book.keys[0])))
    assert stored is not None
    headers = header_block.join(header_block.line(header_block.EXPECTED_SEQUENCE, b"%d" % stored.sequence))
    late: list[asyncio.Task[None]] = []

    async def commit() -> None:
        with pytest.raises(PublishError):
            await jetstream.publish(stored.subject, b"{}", headers=headers)

    def report(line: str) -> None:
        if line == "creating the new streams":
            late.append(asyncio.get_running_loop().create_task(commit()))

    await repartition(jetstream, book.names, 8, report=report)
    await late[0]
    await commit()
    async with book.running(8) as system:
        await book.check(system)


async def test_a_stream_that_is_created_again_begins_above_its_former_sequences(
    book: Book, jetstream: JetStream
) -> None:
    """A commit carries the sequence of its record. In a stream of the same name, it must not fit by chance."""
    last = 0
    for partitions in (8, 1, 8):
        await repartition(jetstream, book.names, partitions)
        async with book.running(partitions) as system:
            await book.add(system)
        if partitions == 8:
            parts = [await jetstream.stream_info(f"{book.names.turns_stream}-p8-{number}") for number in range(8)]
            assert all(part.config.get("first_seq", 1) > last for part in parts)
            last = max(part.state.last_seq for part in parts)


def older(names: Names) -> list[StreamConfig]:
    """Return the streams that the version before partitions wants."""
    own = names.own
    kinds = ("turn", "dedup", "relay", "positions", "timer", "schedule")
    return [
        StreamConfig(
            name=names.turns_stream,
            subjects=tuple(f"{own}.{kind}.>" for kind in kinds),
            max_msgs_per_subject=1,
            allow_msg_ttl=True,
            allow_msg_schedules=True,
        ),
        StreamConfig(name=names.dead_stream, subjects=(f"{own}.dead.>", f"{own}.redrive.>"), discard="new"),
        StreamConfig(
            name=names.events_stream, subjects=(f"{own}.event.>",), max_age=30 * 86_400 * SECOND, discard="new"
        ),
    ]


async def test_an_older_version_refuses_the_streams(book: Book, jetstream: JetStream) -> None:
    _, dead, events = older(book.names)
    for config in (dead, events):
        with pytest.raises(StreamConflict):
            await jetstream.ensure_stream(config)
    await repartition(jetstream, book.names, 8)
    for config in older(book.names):
        with pytest.raises(StreamConflict):
            await jetstream.ensure_stream(config)
    async with book.running(8) as system:
        await book.check(system)


async def test_the_command_says_what_it_would_do_and_then_does_it(book: Book, jetstream: JetStream) -> None:
    flags = ("--nats", book.url, "--namespace", book.namespace)
    plan = await run_command("repartition", "ledger", "8", "--dry-run", *flags, cwd=ROOT)
    assert plan.code == 0, plan.err
    assert json.loads(plan.out)["records"] == len(book.keys)
    done = await run_command("repartition", "ledger", "8", *flags, cwd=ROOT)
    assert done.code == 0, done.err
    lines = [line.removeprefix("ledger: ") for line in done.err.splitlines()]
    assert lines[0] == "reading all records" and lines[-1] == "its keys are in 8 partitions now"
    assert await repartition(jetstream, book.names, 8) is False
    unknown = await run_command("repartition", "nobody", "8", *flags, cwd=ROOT)
    assert unknown.code == 4 and "no actor of this name has run here" in unknown.err
