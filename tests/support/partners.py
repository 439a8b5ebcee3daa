"""Actors of one process that need each other: two with a state that ask one another, and one without that both ask."""

import asyncio

import msgspec

from runtime import Actor, Command, Event, Query, command, query, react
from tests.support.handlers import RUN_COUNTS, gate


class Done(msgspec.Struct, frozen=True):
    work: int = 0
    notes: int = 0


class WorkLeft(Command[int], actor="left", key="name"):
    """Asks the right one, when the gate is open."""

    name: str
    gate: str = ""


class NoteLeft(Command[None], actor="left", key="name"):
    name: str


class GetLeft(Query[Done], actor="left", key="name"):
    name: str


class WorkRight(Command[int], actor="right", key="name"):
    """Asks the left one, when the gate is open."""

    name: str
    gate: str = ""


class GetRight(Query[Done], actor="right", key="name"):
    name: str


class GetRate(Query[int], actor="rates"):
    pass


class RightWorked(Event, actor="right", key="name"):
    name: str


async def _passed(name: str) -> None:
    """A gate where there is one, and otherwise a moment, in which others run."""
    RUN_COUNTS[f"work {name}"] += 1
    await (gate(name).wait() if name else asyncio.sleep(0.02))


class Left(Actor[Done]):
    """Asks the right one."""

    name = "left"

    @command
    async def work(self, message: WorkLeft) -> int:
        await _passed(message.gate)
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
    """Asks the left one, and tells it of its own events."""

    name = "right"

    @command
    async def work(self, message: WorkRight) -> int:
        await _passed(message.gate)
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
    """Has no state, and is asked by both."""

    name = "rates"

    @query
    async def get(self, message: GetRate) -> int:
        return 1
