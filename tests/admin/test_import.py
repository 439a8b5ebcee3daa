"""Export and import: records are edited while an actor is stopped, and the actor goes on with them."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, PublishError, command
from runtime.admin.exported import InvalidLine, line_of, read_lines
from runtime.admin.imported import Imported, Outcome, import_lines
from runtime.admin.leases import hold
from runtime.admin.record_view import view_record
from runtime.admin.refusal import Refused
from runtime.admin.repartition import repartition
from runtime.admin.stored import StoredActor, StoredRecord, open_actor
from runtime.nats.jetstream.client import JetStream
from runtime.nats.lease_value import released_by
from runtime.nats.server import EmbeddedServer
from runtime.storage.record import EDITED, EVENT, Outgoing, decode_record, encode_record, record_fields, rewrite_record
from runtime.wire import header_block
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token
from tests.admin.ledger import Add, Book, GetAccount
from tests.support.probe import running
from tests.support.process import Completed, environment, run_command, running_command

PARTITIONS = 4


class Note(Command[None], actor="plain"):
    pass


class Plain(Actor):
    """Has no state."""

    name = "plain"

    @command
    async def note(self, message: Note) -> None:
        pass


@pytest.fixture
async def book(nats_server: EmbeddedServer, namespace: str) -> Book:
    """A ledger in several partitions that has run."""
    book = Book(nats_server.url, namespace, 6)
    async with book.running(PARTITIONS) as system:
        await book.add(system, 3)
    return book


@pytest.fixture
async def ledger(book: Book) -> AsyncIterator[StoredActor]:
    async with book.jetstream() as jetstream:
        yield await open_actor(jetstream, book.names)


async def export(actor: StoredActor) -> list[bytes]:
    return [line_of(each) async for each in actor.records() if isinstance(each, StoredRecord)]


def edited(line: bytes, **changes: Any) -> bytes:
    """Return a line as an editor leaves it: other values, other spaces, and another order of fields."""
    values = {**json.loads(line), **changes}
    return json.dumps(dict(reversed(values.items())), indent=None, separators=(" , ", " : ")).encode()


async def store(actor: StoredActor, *texts: bytes) -> list[Imported]:
    lines, _ = read_lines(texts)
    return [each async for each in import_lines(actor, lines, "ann", lease_ttl=1.0, report=print)]


async def messages(actor: StoredActor) -> list[tuple[str, int]]:
    """Return the subject and sequence of each message in the streams of the actor."""
    read = actor.jetstream.read
    return [(each.subject, each.sequence) for part in actor.parts async for each in read(part.turns_stream, ">")]


async def stored(actor: StoredActor, key: str) -> StoredRecord:
    found = await actor.record(key)
    assert found is not None
    return found


async def test_the_actor_goes_on_with_edited_records(book: Book, ledger: StoredActor) -> None:
    lines = await export(ledger)
    assert [json.loads(line)["key"] for line in lines] == sorted(book.keys)
    first, second = sorted(book.keys)[:2]
    changed = [edited(lines[0], state={"total": 100, "rang": ["ünï"]}), edited(lines[1], state=None), *lines[2:]]
    new = edited(lines[0], key="new", sequence=0, state={"total": 7}, remembered=[])
    assert [each.outcome for each in await store(ledger, *changed, new)] == [Outcome.STORED] * 3
    found = await stored(ledger, first)
    assert bytes(record_fields(found.message.payload)[EDITED]) == b'"ann"'
    touched = rewrite_record(found.message.payload, "other", set())
    assert bytes(record_fields(touched)[EDITED]) == b'"ann"', "a reader after a take-over that was not clean keeps it"

    book.totals[first], book.totals[second] = 100, 0
    book.keys.append("new")
    book.totals["new"] = 7
    async with book.running(PARTITIONS) as system:
        await book.check_totals(system)
        assert (await system.bus.query(GetAccount(first))).rang == ["ünï"]
        for message_id, message, reply in book.sent:  # what was handled before is not done again
            assert await system.bus.command(message, id=message_id) == reply
        await book.check_totals(system)
        await book.add(system)
    # A turn stores another record: nobody has edited that one.
    found = await stored(ledger, first)
    assert EDITED not in record_fields(found.message.payload)


async def test_lines_that_nobody_has_edited_change_nothing(book: Book, ledger: StoredActor) -> None:
    lines = await export(ledger)
    reformatted = [edited(line) for line in lines]
    assert read_lines([*lines, b"\n", *reformatted]) == ([], 2 * len(lines))
    # A value that was changed and changed back, in a line without its digest, is the same record as well.
    before = await messages(ledger)
    outcomes = await store(ledger, *(edited(line, digest="") for line in lines))
    assert [each.outcome for each in outcomes] == [Outcome.UNCHANGED] * len(lines)
    assert await messages(ledger) == before


async def test_an_import_can_be_repeated(book: Book, ledger: StoredActor) -> None:
    lines = [edited(line, state={"total": 5}) for line in await export(ledger)]
    assert {each.outcome for each in await store(ledger, *lines[:3])} == {Outcome.STORED}
    before = await messages(ledger)
    assert {each.outcome for each in await store(ledger, *lines[:3])} == {Outcome.UNCHANGED}
    assert await messages(ledger) == before
    assert [each.outcome for each in await store(ledger, *lines)] == [Outcome.UNCHANGED] * 3 + [Outcome.STORED] * 3


async def test_a_record_that_has_changed_since_is_a_conflict(book: Book, ledger: StoredActor) -> None:
    lines = await export(ledger)
    first, second, third = sorted(book.keys)[:3]
    async with book.running(PARTITIONS) as system:
        for name in (first, second):
            book.totals[name] = await system.bus.command(Add(name, 1))
    texts = [
        edited(lines[0], state={"total": 100}),
        lines[1],  # changed by the actor, and by nobody else
        edited(lines[2], sequence=0, state={"total": 100}),
        edited(lines[3], key="missing", state={"total": 100}),
    ]
    before = await messages(ledger)
    outcomes = await store(ledger, *texts)
    assert [(each.number, each.key, each.outcome) for each in outcomes] == [
        (1, first, Outcome.CONFLICT),
        (3, third, Outcome.CONFLICT),
        (4, "missing", Outcome.CONFLICT),
    ]
    assert "has changed since the export" in outcomes[0].detail and "has a record already" in outcomes[1].detail
    assert "is gone" in outcomes[2].detail
    assert await messages(ledger) == before
    async with book.running(PARTITIONS) as system:
        await book.check_totals(system)


class Late(JetStream):
    """A client before whose publishes something happens."""

    def __init__(self, jetstream: JetStream, before: Callable[[], Awaitable[object]]) -> None:
        super().__init__(jetstream.connection)
        self.before = before

    async def publish(self, subject: str | bytes, *arguments: Any, **options: Any) -> Any:
        if b".turn." in (subject.encode() if isinstance(subject, str) else subject):
            await self.before()
        return await super().publish(subject, *arguments, **options)


async def test_a_late_commit_of_a_former_owner_is_a_conflict(book: Book, ledger: StoredActor) -> None:
    first = sorted(book.keys)[0]
    line = edited((await export(ledger))[0], state={"total": 100})
    found = await stored(ledger, first)
    expected = header_block.encode([("Nats-Expected-Last-Subject-Sequence", str(found.message.sequence))])

    async def commit() -> None:
        await ledger.jetstream.publish(found.message.subject, found.message.payload, headers=expected)

    late = StoredActor(Late(ledger.jetstream, commit), ledger.names, ledger.layout)
    [outcome] = await store(late, line)
    assert outcome.outcome is Outcome.CONFLICT and "has changed since" in outcome.detail
    assert (await stored(ledger, first)).message.payload == found.message.payload


async def test_the_next_owner_learns_of_a_write_whose_outcome_is_unknown(book: Book, ledger: StoredActor) -> None:
    async def fail() -> None:
        raise TimeoutError("no answer")

    late = StoredActor(Late(ledger.jetstream, fail), ledger.names, ledger.layout)
    with pytest.raises(TimeoutError, match="no answer"):
        await store(late, edited((await export(ledger))[0], state={"total": 100}))
    assert await released(ledger) == [False] * PARTITIONS
    async with book.running(PARTITIONS) as system:
        await book.check(system)
    assert await released(ledger) == [True] * PARTITIONS


async def released(actor: StoredActor) -> list[bool]:
    """Return whether the last holder of each lease has said that no write of its own is under way."""
    bucket = actor.names.lease_bucket
    subjects = [f"$KV.{bucket}.{actor.names.actor}.{number}" for number in range(PARTITIONS)]
    markers = [await actor.jetstream.get_last(f"KV_{bucket}", subject) for subject in subjects]
    said = [None if marker is None else released_by(marker) for marker in markers]
    return [each.settled for each in said if each is not None]


async def test_events_that_were_not_published_leave_after_an_import(book: Book, ledger: StoredActor) -> None:
    """The owner has died between a commit and the publishing of its outbox."""
    first, second = sorted(book.keys)[:2]
    jetstream = ledger.jetstream
    for name in (first, second):
        found = await stored(ledger, name)
        body = msgspec.Raw(msgspec.json.encode({"name": name, "amount": 5}))
        event = Outgoing(f"event of {name}", EVENT, "Added", key_token(name), body, 1.0)
        record = decode_record(found.message.payload, found.message.subject)
        record.outbox = [event]
        payload = encode_record(record)[:-1] + b',"of_a_newer_version":[1]}'
        await jetstream.publish(found.message.subject, payload)
    part = (await stored(ledger, second)).names
    await jetstream.publish(part.checkpoint(), b"%d" % (await stored(ledger, second)).message.sequence)
    view = await view_record(ledger, await stored(ledger, first))
    assert [each["name"] for each in view["outbox"]] == ["Added"] and bytes(view["of_a_newer_version"]) == b"[1]"
    assert (await view_record(ledger, await stored(ledger, second)))["outbox"] == []

    lines = [edited(line, state={"total": 100}) for line in (await export(ledger))[:2]]
    assert [each.outcome for each in await store(ledger, *lines)] == [Outcome.STORED] * 2
    found = await stored(ledger, first)
    assert [entry.id for entry in found.record.outbox] == [f"event of {first}"]
    assert b"of_a_newer_version" in found.message.payload
    assert (await stored(ledger, second)).record.outbox == []

    tally = book.totals[first] + 5
    async with book.running(PARTITIONS) as system:
        assert (await system.bus.query(GetAccount(first))).total == 100
        book.totals[first] = tally
        await book.check_tally(system)


async def test_an_owner_that_lives_is_named_and_nothing_changes(book: Book, ledger: StoredActor) -> None:
    line = edited((await export(ledger))[0], state={"total": 100})
    async with book.running(PARTITIONS) as system:
        with pytest.raises(Refused, match=r"ledger: an owner of partition \d lives") as refused:
            await store(ledger, line)
        assert f"host {socket.gethostname()}, process {os.getpid()}" in str(refused.value)
        await book.check(system)


async def test_two_imports_do_not_run_together(book: Book, ledger: StoredActor) -> None:
    line = edited((await export(ledger))[0], state={"total": 100})
    async with hold(ledger.jetstream, book.names, PARTITIONS, PARTITIONS, 1.0, 1, print, "import"):
        with pytest.raises(Refused, match="another import is under way"):
            await store(ledger, line)
        with pytest.raises(Refused, match="another import is under way"):
            await repartition(ledger.jetstream, book.names, 8)


async def test_another_layout_is_refused(book: Book, ledger: StoredActor) -> None:
    line = edited((await export(ledger))[0], state={"total": 100})
    await repartition(ledger.jetstream, book.names, 1)
    with pytest.raises(Refused, match="no longer stored in 4 partitions"):
        await store(ledger, line)
    moved = await open_actor(ledger.jetstream, book.names)
    assert [each.outcome for each in await store(moved, line)] == [Outcome.CONFLICT]


async def test_an_actor_without_state_is_refused(nats_server: EmbeddedServer, namespace: str, book: Book) -> None:
    async with running(Plain, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Note())
    async with book.jetstream() as jetstream:
        plain = await open_actor(jetstream, Names("plain", namespace))
        assert [json.loads(line)["state"] for line in await export(plain)] == [None]  # it remembers the command
        with pytest.raises(Refused, match="plain has no state"):
            await store(plain, b'{"key":"a","sequence":0,"version":1,"state":{}}')


async def test_a_record_that_is_too_large_is_refused(book: Book, ledger: StoredActor) -> None:
    line = edited((await export(ledger))[0], state={"total": 1, "rang": ["x" * 2_000_000]})
    before = await messages(ledger)
    with pytest.raises(PublishError, match=r"2000\d+ bytes .* the server takes"):
        await store(ledger, line)
    assert await messages(ledger) == before


GOOD = '{"key":"a","sequence":1,"version":1,"state":{}}'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense", "line 2 is no record"),
        ("[]", "line 2 is no record: Expected `object`"),
        ('{"key":"a"}', "line 2 is no record: Object missing required field `sequence`"),
        (GOOD.replace('"key":"a"', '"key":1'), r"Expected `str`, got `int` - at `\$.key`"),
        (GOOD.replace('"sequence":1', '"sequence":-1'), r"at `\$.sequence`"),
        (GOOD.replace('"sequence":1', '"sequence":1.5'), r"at `\$.sequence`"),
        (GOOD.replace('"version":1', '"version":0'), r"at `\$.version`"),
        (GOOD.replace('"state"', '"status"'), "unknown field `status`"),
        (GOOD.replace("{}}", '{},"remembered":[{"id":"x"}]}'), r"required field `time` - at `\$.remembered\[0\]`"),
        (GOOD.replace('"a"', f'"{"ü" * 600}"'), "line 2 is no record: .* is too long"),
        (GOOD.replace("{}", f'{{"count":{"9" * 5000}}}'), "line 2 is no record: .*4300 digits"),
        (GOOD.replace('"a"', '"b"'), "lines 1 and 2 have the same key 'b'"),
    ],
)
def test_a_line_that_is_no_record_is_named(text: str, reason: str) -> None:
    with pytest.raises(InvalidLine, match=reason):
        read_lines([GOOD.replace('"a"', '"b"').encode(), text.encode()])


async def test_a_record_that_cannot_be_read_is_left_out(book: Book, ledger: StoredActor) -> None:
    first = sorted(book.keys)[0]
    found = await stored(ledger, first)
    line = edited(line_of(found), state={"total": 100})
    for payload, reason in ((b"{", "unreadable"), (b'{"commit_id":"x","format":99}', "newer version")):
        await ledger.jetstream.publish(found.message.subject, payload)
        assert len(await export(ledger)) == len(book.keys) - 1
        [outcome] = await store(ledger, line)
        assert outcome.outcome is Outcome.CONFLICT and reason in outcome.detail


async def test_the_commands(nats_server: EmbeddedServer, book: Book, ledger: StoredActor, tmp_path: Path) -> None:
    (tmp_path / "actorloom.toml").write_text(f"[actors.ledger]\npartitions = {PARTITIONS}\n")
    settings = ("--nats", nats_server.url, "--namespace", book.namespace)

    async def cli(name: str, *arguments: str, stdin: str = "") -> Completed:
        done = await run_command(name, "ledger", *arguments, *settings, cwd=tmp_path, stdin=stdin)
        assert "Traceback" not in done.err and "Internal error" not in done.err
        return done

    exported = await cli("export")
    lines = exported.out.splitlines()
    assert exported.code == 0 and [line.encode() for line in lines] == await export(ledger)
    part = await cli("export", "--prefix", sorted(book.keys)[1])
    assert part.out.splitlines() == lines[1:2]
    mended = "\n".join([edited(lines[0].encode(), state={"total": 100}).decode(), *lines[1:]])

    # Beside a live owner, which is killed then: the command waits until its leases are over.
    async with running_command("run", "tests.admin.ledger:Ledger", *settings, cwd=tmp_path) as owner:
        refused = await cli("import", stdin=mended)
        assert refused.code == 2 and "lives (host" in refused.err and "stop all processes" in refused.err
        assert f"process {owner.pid}" in refused.err
        assert (await cli("export")).out.splitlines() == lines
        owner.signal(signal.SIGKILL)
        await owner.wait()
        done = await cli("import", "--by", "ann", "--json", stdin=mended)
    assert done.code == 0, done.err
    assert json.loads(done.out) == [{"line": 1, "key": sorted(book.keys)[0], "outcome": "stored", "detail": ""}]
    assert done.err.splitlines()[-1] == f"1 stored, {len(lines) - 1} unchanged, 0 in conflict"
    shown = await run_command("state", f"ledger/{sorted(book.keys)[0]}", *settings, cwd=tmp_path)
    assert json.loads(shown.out) == {"total": 100} and "edited by ann" in shown.err

    again = await cli("import", stdin=edited(lines[0].encode(), state={"total": 101}).decode())
    assert again.code == 1 and "line 1" in again.err and "conflict" in again.err and "0 stored" in again.err
    assert (await cli("import", stdin="nonsense")).code == 2
    assert (await cli("import", "--by", "a\nb", stdin=mended)).code == 2


async def test_a_killed_import_is_run_again(nats_server: EmbeddedServer, namespace: str, tmp_path: Path) -> None:
    book = Book(nats_server.url, namespace, 400)
    async with book.running() as system:
        await book.add(system)
    async with book.jetstream() as jetstream:
        ledger = await open_actor(jetstream, book.names)
        lines = [edited(line, state={"total": 7}) for line in await export(ledger)]
        settings = ("--nats", nats_server.url, "--namespace", namespace, "--lease-ttl", "1")
        tool = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "runtime", "import", "ledger", *settings, cwd=tmp_path, env=environment(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert tool.stdin is not None
        tool.stdin.write(b"\n".join(lines))
        tool.stdin.close()
        try:
            async with asyncio.timeout(20):
                while not (await stored(ledger, min(book.keys))).message.payload.startswith(b'{"commit_id":"import-'):
                    await asyncio.sleep(0)
        finally:
            tool.kill()
            await tool.wait()
        again = await run_command(
            "import", "ledger", *settings, "--json", cwd=tmp_path, stdin=b"\n".join(lines).decode()
        )
        assert again.code == 0, again.err
        outcomes = [each["outcome"] for each in json.loads(again.out)]
        assert outcomes == sorted(outcomes, reverse=True) and len(outcomes) == len(lines)  # unchanged ones first
        assert "unchanged" in outcomes
    for name in book.keys:
        book.totals[name] = 7
    async with book.running() as system:
        await book.check_totals(system)
        for message_id, message, _ in book.sent[:20]:
            assert await system.bus.command(message, id=message_id) == 1
        await book.check_totals(system)
