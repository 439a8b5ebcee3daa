"""`query`, `command` and `emit` as real processes, against running actors."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import pytest

from runtime import Actor, Command, Event, Query, Rejected, command, not_found, query, react
from runtime.actor.message import new_key
from runtime.nats.server import EmbeddedServer
from runtime.testing import System, running
from runtime.wire.buckets import partition_of
from runtime.wire.tokens import key_token
from tests.support import notes, probe
from tests.support.process import Completed, run_command, running_command

T = TypeVar("T")


class Note(msgspec.Struct, frozen=True, rename="camel"):
    """A note."""

    note_id: str
    text: str
    stars: int = 0


class GetNote(Query[Note], actor="notes", key="note_id", rename="camel"):
    note_id: str


class WriteNote(Command[Note], actor="notes", key=new_key, rename="camel"):
    text: str
    stars: int = 0


class BurnNote(Command[None], actor="notes", key="note_id", rename="camel"):
    note_id: str


class NoteRated(Event, actor="notes", key="note_id", rename="camel"):
    note_id: str
    stars: int


class Notes(Actor[Note]):
    """Keeps notes."""

    name = "notes"

    @query
    async def get_note(self, message: GetNote) -> Note:
        return self.state or not_found(f"no note {message.note_id}")

    @command
    async def write_note(self, message: WriteNote) -> Note:
        self.state = Note(self.key, message.text, message.stars)
        return self.state

    @command
    async def burn_note(self, message: BurnNote) -> None:
        if self.state is not None and self.state.stars:
            raise Rejected("it has stars")
        self.state = None

    @react
    async def on_note_rated(self, event: NoteRated) -> None:
        if self.state is not None:
            self.state = msgspec.structs.replace(self.state, stars=event.stars)


class LookUp(Query[int], actor="plain"):
    pass


class Found(msgspec.Struct, Generic[T], frozen=True):
    items: list[T]


class FindNotes(Query[Found[Note]], actor="plain"):
    pass


class Plain(Actor):
    """Has no events."""

    name = "plain"

    @query
    async def find_notes(self, message: FindNotes) -> Found[Note]:
        return Found([])

    @query
    async def look_up(self, message: LookUp) -> int:
        return 1


class Desk:
    """The running notes, and the command line in their namespace."""

    def __init__(self, system: System, flags: list[str], cwd: Path) -> None:
        self.system = system
        self._flags = flags
        self.cwd = cwd

    async def __call__(self, *arguments: str, stdin: str = "") -> Completed:
        return await run_command(*arguments, *self._flags, cwd=self.cwd, stdin=stdin)

    async def note(self, *arguments: str) -> dict[str, object]:
        """Write a note and return it."""
        done = await self("command", "notes.write_note", *arguments)
        assert done.code == 0, done
        return json.loads(done.out)


@pytest.fixture
async def desk(nats_server: EmbeddedServer, namespace: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with running(Notes, Plain, url=nats_server.url, namespace=namespace) as system:
        yield Desk(system, ["--nats", nats_server.url, "--namespace", namespace], tmp_path)


async def test_a_reply_is_json_on_stdout_and_stderr_is_empty(desk: Desk) -> None:
    note = await desk.note("text=7", "stars=2")
    assert (note["text"], note["stars"]) == ("7", 2)
    for target in ("notes.get_note", "notes.GetNote", "notes.query.get_note"):
        answered = await desk("query", target, f"noteId={note['noteId']}")
        assert (answered.code, json.loads(answered.out), answered.err) == (0, note, "")
    piped = await desk("query", "notes.get_note", "-", stdin=json.dumps({"noteId": note["noteId"]}))
    assert json.loads(piped.out) == note


async def test_a_command_without_a_result_prints_null(desk: Desk) -> None:
    assert await desk("command", "notes.burn_note", "noteId=1") == Completed(0, "null\n", "")


async def test_commands_with_the_same_id_take_effect_once(desk: Desk) -> None:
    first = await desk.note("text=a", "--id", "one")
    assert await desk.note("text=a", "--id", "one") == first
    assert await desk.note("text=b", "--id", "two") != first
    reused = await desk("command", "notes.write_note", "text=b", "--id", "one")
    assert (reused.code, reused.out) == (3, "")
    assert reused.err.startswith("Error: 409 IdReused: ") and str(first["noteId"]) not in reused.err


async def test_an_id_that_no_header_can_hold_is_refused(tmp_path: Path) -> None:
    emitted = ("emit", "notes.NoteRated", "noteId=1", "stars=1", "--id=a\nce-type: x")
    for arguments in (("command", "notes.write_note", "text=a", "--id="), emitted):
        refused = await run_command(*arguments, cwd=tmp_path)
        assert (refused.code, refused.out) == (2, "")
        assert "is not an id: write 1 to 256 bytes of printable text" in refused.err


async def test_a_header_with_a_line_break_is_refused(tmp_path: Path) -> None:
    text = "x-a: b\nIdempotency-Key: c"
    refused = await run_command("query", "notes.get_note", "noteId=1", "--header", text, cwd=tmp_path)
    assert (refused.code, refused.out) == (2, "") and "cannot be part of a header line" in refused.err


async def test_an_error_of_the_service_exits_with_3(desk: Desk) -> None:
    missing = await desk("query", "notes.get_note", "noteId=none")
    assert missing == Completed(3, "", "Error: 404 NotFound: no note none\n")
    note = await desk.note("text=a", "stars=1")
    refused = await desk("command", "notes.burn_note", f"noteId={note['noteId']}")
    assert refused == Completed(3, "", "Error: 409 Rejected: it has stars\n")
    invalid = await desk("command", "notes.write_note", "stars=many")
    assert invalid.code == 3
    assert "400 InvalidMessage" in invalid.err


MISSING = [
    (("query", "notes.get_not", "{}"), "no service has the query notes.get_not: did you mean notes.get_note?"),
    (("query", "nots.get_note", "noteId=1"), "did you mean notes.get_note?"),
    (("query", "notes.write_note", "{}"), "it is a command, use `actorloom command`"),
    (("command", "notes.get_note", "{}"), "it is a query, use `actorloom query`"),
    (("query", "elsewhere.nothing", "{}"), "`actorloom ls` lists the running services"),
    (("emit", "elsewhere.Happened", "a=1", "--key", "1"), "no stream has the events of elsewhere"),
    (("emit", "notes.NoteRatd", "noteId=1"), "notes has no event NoteRatd: did you mean NoteRated?"),
    (("emit", "plain.Happened", "a=1"), "plain has no events"),
    (("describe", "nots"), "no service 'nots' is running: did you mean notes?"),
]


async def test_a_missing_operation_exits_with_4_and_suggests_one(desk: Desk) -> None:
    for arguments, text in MISSING:
        done = await desk(*arguments)
        assert (done.code, done.out) == (4, "")
        assert text in done.err


async def test_a_missing_server_exits_with_4(tmp_path: Path) -> None:
    for name in (("query", "a.b"), ("health",)):
        done = await run_command(*name, "--nats", "nats://127.0.0.1:1", "--timeout", "0.3", cwd=tmp_path)
        assert done.code == 4
        assert done.err.startswith("Error: cannot connect to NATS at nats://127.0.0.1:1")
        assert done.err.count("\n") == 1


async def test_a_timeout_exits_with_5(desk: Desk, namespace: str) -> None:
    for op, text in (("query", "no reply within 0.2 s\n"), ("command", "repeat it with --id one\n")):
        silent = await desk.system.connection.subscribe(f"{namespace}.silent.{op}.nap", lambda *_: None)
        await desk.system.connection.flush()
        done = await desk(op, "silent.nap", "{}", "--timeout", "0.2", *(("--id", "one") if op == "command" else ()))
        assert (done.code, done.out) == (5, "")
        assert done.err.endswith(text)
        silent.unsubscribe()


USAGE = [
    (("query",), "Missing argument"),
    (("query", "notes"), "write service.name"),
    (("query", "notes.get.note.x"), "write service.name"),
    (("query", "notes.command.write_note"), "use `actorloom command`"),
    (("query", "notes.get_note", "noteid=1"), "did you mean 'noteId'?"),
    (("query", "notes.get_note", "{"), "the body is not JSON"),
    (("query", "notes.get_note", "{}", "--header", "x"), "write NAME:VALUE"),
    (("query", "notes.get_note", "{}", "--timeout", "0"), "timeout = 0.0"),
    (("emit", "notes.NoteRated", "stars=1"), "noteId is missing"),
    (("emit", "elsewhere.Happened", "a=1"), "give it by --key"),
]


async def test_invalid_usage_exits_with_2(desk: Desk) -> None:
    for arguments, text in USAGE:
        done = await desk(*arguments)
        assert (done.code, done.out) == (2, "")
        assert text in done.err
        assert "Traceback" not in done.err


async def test_an_emitted_event_is_stored_and_handled(desk: Desk) -> None:
    note = await desk.note("text=a")
    emitted = await desk("emit", "notes.NoteRated", f"noteId={note['noteId']}", "stars=5", "--id", "r1")
    assert emitted.code == 0, emitted
    stored = json.loads(emitted.out)
    assert (stored["id"], stored["sequence"], stored["duplicate"]) == ("r1", 1, False)
    again = await desk("emit", "notes.note_rated", f'{{"noteId":"{note["noteId"]}","stars":1}}', "--id", "r1")
    assert json.loads(again.out)["duplicate"] is True

    async def rated() -> bool:
        answered = await desk("query", "notes.get_note", f"noteId={note['noteId']}")
        return json.loads(answered.out)["stars"] == 5

    await desk.system.until(rated)


async def test_the_trace_id_is_printed_and_headers_are_sent(desk: Desk) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    header = f"traceparent: 00-{trace}-b7ad6b7169203331-01"
    answered = await desk("query", "notes.get_note", "noteId=1", "--trace", "--header", header)
    assert f"trace {trace}\n" in answered.err
    assert [span.name for span in desk.system.trace_of(trace)] == ["notes/get_note"]


async def test_services_are_listed_and_described(desk: Desk) -> None:
    listed = json.loads((await desk("ls", "--json")).out)
    assert [(each["name"], len(each["instances"])) for each in listed] == [("notes", 1), ("plain", 1)]
    table = (await desk("ls")).out.splitlines()
    assert table[0].split() == ["service", "namespace", "version", "instances", "partitions", "operations"]
    assert table[1].split()[0] == "notes"
    described = json.loads((await desk("describe", "notes", "--json")).out)
    operations = {each["name"]: (each["op"], each["key"]) for each in described["endpoints"]}
    assert operations["get_note"] == ("query", "noteId")
    assert operations["write_note"] == ("command", None)
    assert described["events"]["notes.NoteRated"]["key"] == "noteId"
    text = (await desk("describe", "notes")).out
    for line in (
        "Keeps notes.",
        "  get_note {noteId: string} → Note",
        "  write_note {text: string, stars?: integer} → Note",
        "  notes.NoteRated {noteId: string, stars: integer}",
        "  Note {noteId: string, text: string, stars?: integer}",
    ):
        assert line in text.splitlines()
    text = (await desk("describe", "plain")).out
    for line in ("  find_notes {} → Found[Note]", "  Found[Note] {items: [Note]}"):
        assert line in text.splitlines()
    drawn = await desk("graph")
    assert drawn.out == "flowchart LR\n  notes[notes]\n  plain[plain]\n  notes -- NoteRated --> notes\n"
    assert "discovery does not know who sends them" in drawn.err
    nodes = json.loads((await desk("graph", "--format", "json", "--rates")).out)["nodes"]
    rates = {node["name"]: node["rates"] for node in nodes}
    assert rates["notes"] == {"requests": 0, "errors": 0, "events": 0}


async def test_health_exits_with_0_if_all_named_services_answer(desk: Desk, namespace: str) -> None:
    good = await desk("health", "notes")
    assert (good.code, json.loads(good.out)["notes"]) == (0, 1)
    assert (await desk("health")).code == 0
    bad = await desk("health", "notes", "absent", "--timeout", "0.3")
    assert (bad.code, bad.err) == (4, f"Error: no answer from absent in namespace '{namespace}'\n")


async def test_a_request_waits_for_the_next_owner_of_its_partition(
    nats_server: EmbeddedServer, namespace: str, tmp_path: Path
) -> None:
    flags = ("--nats", nats_server.url, "--namespace", namespace)
    key = next(key for key in map(str, range(100)) if partition_of(key_token(key), notes.PARTITIONS) == 2)
    async with probe.running(notes.Notes, url=nats_server.url, namespace=namespace) as system:
        owner = system.owners("notes")[2]
        want = owner.want
        want(False)
        owner.want = lambda wanted: None  # type: ignore[method-assign]
        await system.until(lambda: owner.serving is None)
        short, long = (
            ("command", "notes.write_note", f'{{"name":"{key}","text":"abc"}}', *flags, "--timeout", timeout)
            for timeout in ("0.2", "20")
        )
        late = await run_command(*short, cwd=tmp_path)
        assert late.code == 4 and f"{namespace}.notes.command.write_note: no process owns partition 2" in late.err
        async with running_command(*long, cwd=tmp_path, ready="is about to take it") as waiting:
            want(True)
            assert await waiting.wait() == 0
            assert waiting.text.splitlines()[-1] == "3"
