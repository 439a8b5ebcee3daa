"""An actor with a handler of each kind that waits at a gate, for tests of the hand-over. Its state lists the messages that it has handled."""

from typing import Any

import msgspec

from runtime import Accepted, Actor, Command, Event, Index, Query, Rejected, command, query, react
from tests.support.handlers import RUN_COUNTS, gate


class Marks(msgspec.Struct, frozen=True):
    """The marks of the messages that a key has handled, in order."""

    name: str
    marks: tuple[str, ...] = ()
    count: int = 0
    """Their number, by which lists are ordered."""


class Mark(Command[int], actor="marks", key="name"):
    """Adds a mark, and emits `Marked`. Waits first if it has a gate. Returns the number of marks."""

    name: str
    mark: str
    gate: str = ""


class MarkLong(Command[Accepted], actor="marks", key="name"):
    """Does the same as a long job."""

    name: str
    mark: str
    gate: str = ""


class MarkByTimer(Command[None], actor="marks", key="name"):
    """Does the same by a timer."""

    name: str
    mark: str
    gate: str = ""


class MarkByEvent(Command[None], actor="marks", key="source"):
    """Does the same by an event of another key."""

    source: str
    name: str
    mark: str
    gate: str = ""


class Refuse(Command[None], actor="marks", key="name"):
    """Is rejected, after a wait at the gate."""

    name: str
    gate: str


class MarkBoth(Command[int], actor="marks", key="name"):
    """Waits at the gate, adds a mark to another key and looks at its own one. Returns the number of marks of the other."""

    name: str
    other: str
    gate: str


class MarkThenList(Command[list[Marks]], actor="marks", key="name"):
    """Waits at the gate, adds a mark to two other keys, changes itself, and returns all keys as its handler lists them."""

    name: str
    others: list[str]
    gate: str


class MarkOnce(Command[None], actor="marks", key="source"):
    """Does the same by an event whose reaction has one attempt, and fails in it when the gate opens the first time."""

    source: str
    name: str
    gate: str


class GetMarks(Query[Marks], actor="marks", key="name"):
    name: str
    gate: str = ""


class ListMarks(Query[list[Marks]], actor="marks"):
    """Returns all keys, those with the most marks first."""


class Ordered(Event, actor="marks", key="name"):
    name: str
    mark: str
    gate: str


class Failed(Event, actor="marks", key="name"):
    name: str
    gate: str


class Marked(Event, actor="marks", key="name"):
    name: str
    mark: str


class Marking(Actor[Marks], indexes=[Index(order="count")]):
    name = "marks"

    async def _mark(self, message: Any) -> int:
        RUN_COUNTS[f"mark {message.name} {message.mark}"] += 1
        if message.gate:
            await gate(message.gate).wait()
        before = self.state or Marks(message.name)
        self.state = Marks(message.name, (*before.marks, message.mark), before.count + 1)
        self.emit(Marked(message.name, message.mark))
        return self.state.count

    @command
    async def mark(self, message: Mark) -> int:
        return await self._mark(message)

    @command(accept=True)
    async def mark_long(self, message: MarkLong) -> None:
        await self._mark(message)

    @command
    async def mark_by_timer(self, message: MarkByTimer) -> None:
        self.remind(0, Mark(message.name, message.mark, message.gate))

    @command
    async def mark_by_event(self, message: MarkByEvent) -> None:
        self.emit(Ordered(message.name, message.mark, message.gate))

    @command
    async def refuse(self, message: Refuse) -> None:
        RUN_COUNTS[f"mark {message.name} refuse"] += 1
        await gate(message.gate).wait()
        raise Rejected("no")

    @command
    async def mark_both(self, message: MarkBoth) -> int:
        RUN_COUNTS[f"mark {message.name} both"] += 1
        await gate(message.gate).wait()
        count = await self.command(Mark(message.other, "nested"))
        own = await self.query(GetMarks(message.name))
        self.state = Marks(message.name, (*own.marks, "both"), own.count + 1)
        return count

    @command
    async def mark_then_list(self, message: MarkThenList) -> list[Marks]:
        RUN_COUNTS[f"mark {message.name} list"] += 1
        await gate(message.gate).wait()
        for other in message.others:
            await self.command(Mark(other, "nested"))
        items = (await self.list(order="-count", limit=1000)).items
        self.state = Marks(message.name, ("listed",), 1)
        return items

    @command
    async def mark_once(self, message: MarkOnce) -> None:
        self.emit(Failed(message.name, message.gate))

    @react(attempts=1)
    async def on_failed(self, event: Failed) -> None:
        RUN_COUNTS[f"once {event.gate}"] += 1
        await gate(event.gate).wait()
        if RUN_COUNTS[f"once {event.gate}"] == 1:
            raise RuntimeError("the first time")
        before = self.state or Marks(event.name)
        self.state = Marks(event.name, (*before.marks, "once"), before.count + 1)

    @react
    async def on_ordered(self, event: Ordered) -> None:
        await self._mark(event)

    @query
    async def get_marks(self, message: GetMarks) -> Marks:
        if message.gate:
            RUN_COUNTS[f"look {message.gate}"] += 1
            await gate(message.gate).wait()
        return self.state or Marks(message.name)

    @query
    async def list_marks(self, message: ListMarks) -> list[Marks]:
        return (await self.list(order="-count", limit=1000)).items


class GetSeenMarks(Query[Marks], actor="marks-watcher", key="name"):
    name: str


class MarksWatcher(Actor[Marks]):
    """Lists the marks of the events of each key."""

    name = "marks-watcher"

    @react
    async def on_marked(self, event: Marked) -> None:
        self.state = Marks(event.name, (*(self.state or Marks(event.name)).marks, event.mark))

    @query
    async def get_seen(self, message: GetSeenMarks) -> Marks:
        return self.state or Marks(message.name)
