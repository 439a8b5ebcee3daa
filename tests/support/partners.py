"""Three actors of one process that depend on each other: two with state that query one another, and one that both query."""

import asyncio

import msgspec

from runtime import Actor, Command, Event, Query, command, query, react
from tests.support.handlers import RUN_COUNTS, gate


class Done(msgspec.Struct, frozen=True):
    """The number of commands and of notes that a key has handled."""

    work: int = 0
    notes: int = 0


class WorkLeft(Command[int], actor="left", key="name"):
    """Queries `Right` once the gate is open. Without a gate the handler sleeps for a moment first."""

    name: str
    gate: str = ""


class NoteLeft(Command[None], actor="left", key="name"):
    """Adds one to the notes of `Left`."""

    name: str


class GetLeft(Query[Done], actor="left", key="name"):
    name: str


class WorkRight(Command[int], actor="right", key="name"):
    """Queries `Left` once the gate is open. Without a gate the handler sleeps for a moment first."""

    name: str
    gate: str = ""


class GetRight(Query[Done], actor="right", key="name"):
    name: str


class GetRate(Query[int], actor="rates"):
    """Returns the number that each command adds to `Done.work`."""


class RightWorked(Event, actor="right", key="name"):
    """`Right` has handled a command."""

    name: str


async def _wait_at(name: str) -> None:
    """Count a run, and wait for the gate `name`, or for 20 ms if there is none."""
    RUN_COUNTS[f"work {name}"] += 1
    await (gate(name).wait() if name else asyncio.sleep(0.02))


class Left(Actor[Done]):
    """Queries `Right` and `Rates` in each command."""

    name = "left"

    @command
    async def work(self, message: WorkLeft) -> int:
        await _wait_at(message.gate)
        await self.query(GetRight(message.name))
        before = self.state or Done()
        self.state = Done(before.work + await self.query(GetRate()), before.notes)
        return self.state.work

    @command
    async def note(self, message: NoteLeft) -> None:
        before = self.state or Done()
        self.state = Done(before.work, before.notes + 1)

    @query
    async def get(self, message: GetLeft) -> Done:
        return self.state or Done()


class Right(Actor[Done]):
    """Queries `Left` and `Rates` in each command, emits an event, and reacts to it with a command to `Left`."""

    name = "right"

    @command
    async def work(self, message: WorkRight) -> int:
        await _wait_at(message.gate)
        await self.query(GetLeft(message.name))
        before = self.state or Done()
        self.state = Done(before.work + await self.query(GetRate()))
        self.emit(RightWorked(message.name))
        return self.state.work

    @react
    async def on_right_worked(self, event: RightWorked) -> None:
        await asyncio.sleep(0.02)
        await self.command(NoteLeft(event.name))

    @query
    async def get(self, message: GetRight) -> Done:
        return self.state or Done()


class Rates(Actor):
    """An actor without state that answers both."""

    name = "rates"

    @query
    async def get(self, message: GetRate) -> int:
        return 1
