"""The way of one query through the rooms, as Python's profiler sees it: short, and without going back and forth."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import nats
import pytest
from msgspec import Struct

import runtime
from runtime import Actor, Command, Query, command, query
from runtime.nats.server import EmbeddedServer
from runtime.testing import running

ROOT = Path(runtime.__file__).parent
ASIDE = {"telemetry", "errors.py", "faults.py", "options.py", "bounds.py"}
"""Rooms that every other room uses on the way."""


class Note(Struct, frozen=True):
    text: str = ""


class GetEcho(Query[str], actor="echoes"):
    text: str


class GetNote(Query[str], actor="notes", key="name"):
    name: str


class SetNote(Command[None], actor="notes", key="name"):
    name: str
    text: str


class Echoes(Actor):
    """Has no state."""

    name = "echoes"

    @query
    async def get_echo(self, message: GetEcho) -> str:
        return message.text


class Notes(Actor[Note]):
    """Has a state for each name."""

    name = "notes"

    @query
    async def get_note(self, message: GetNote) -> str:
        state = self.state
        return state.text if state else ""

    @command
    async def set_note(self, message: SetNote) -> None:
        self.state = Note(message.text)


def room_of(frame: FrameType | None) -> str | None:
    """Return the room of the nearest frame of the runtime, from `frame` outwards."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT):
            return path.relative_to(ROOT).parts[0]
        frame = frame.f_back
    return None


async def crossings(work: Callable[[], Any]) -> list[tuple[str, str, str]]:
    """Return each call from one room into another while `work` runs, in order: both rooms, and the called function."""
    found: list[tuple[str, str, str]] = []

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(str(ROOT)):
            return
        caller, callee = room_of(frame.f_back), room_of(frame)
        if caller and callee and caller != callee and not ASIDE & {caller, callee}:
            found.append((caller, callee, frame.f_code.co_qualname))

    sys.setprofile(profile)
    try:
        await work()
    finally:
        sys.setprofile(None)
    return found


QUERIES = [("echoes.query.get_echo", b'{"text":"a"}'), ("notes.query.get_note", b'{"name":"a"}')]


@pytest.mark.parametrize(("subject", "payload"), QUERIES, ids=["without state", "with a key"])
async def test_a_query_crosses_few_rooms_and_none_twice_in_one_direction(
    nats_server: EmbeddedServer, namespace: str, subject: str, payload: bytes
) -> None:
    async with running(Echoes, Notes, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(SetNote("a", "a"))
        client = await nats.connect(nats_server.url)

        async def ask() -> None:
            answer = await client.request(f"{namespace}.{subject}", payload, timeout=10)
            assert answer.data == b'"a"'

        try:
            await ask()
            # Timers of the runtime may run between; the run with the fewest crossings has none of theirs.
            found = min([await crossings(ask) for _ in range(10)], key=len)
        finally:
            await client.close()
    assert ("nats", "intake", "QueryEndpoint.receive") in found, "the profiler saw the query"
    assert len({room for caller, callee, _ in found for room in (caller, callee)}) <= 5, found
    assert len(found) == len(set(found)), "no function of another room is called twice"
    if subject == QUERIES[0][0]:
        # A query of a key also comes back to the turns, for the state.
        directions = [(caller, callee) for caller, callee, _ in found]
        assert len(directions) == len(set(directions)), found
