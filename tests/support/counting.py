"""Actors of the tests of the core: a counter for each key, a watcher of its events, and a stateless relay of commands."""

import asyncio
from collections import Counter as Tally
from typing import Any

import msgspec

from runtime import (
    Accepted,
    Actor,
    CallCycle,
    Command,
    Event,
    Index,
    Query,
    Rejected,
    command,
    new_key,
    not_found,
    query,
    react,
)


class Count(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    value: int = 0


class GetCount(Query[Count], actor="counter", key="name", rename="camel"):
    name: str


class ListCounts(Query[list[Count]], actor="counter"):
    pass


class Add(Command[Count], actor="counter", key="name", rename="camel"):
    name: str
    by: int = 1


class OpenCount(Command[Count], actor="counter", key=new_key):
    by: int = 0


class DropCount(Command[None], actor="counter", key="name"):
    name: str


class Reject(Command[None], actor="counter", key="name"):
    """Changes state and emits, and is rejected all the same."""

    name: str


class Fail(Command[None], actor="counter", key="name"):
    """Changes state and emits, and fails."""

    name: str
    how: str = "raise"


class Wait(Command[int], actor="counter", key="name"):
    """Adds one when the gate opens."""

    name: str


class AddTwice(Command[int], actor="counter", key="name"):
    """Adds to two other counters by nested commands."""

    name: str
    one: str
    two: str


class AddLater(Command[Accepted], actor="counter", key="name"):
    name: str
    by: int = 1


class Added(Event, actor="counter", key="name", rename="camel"):
    name: str
    by: int


class TooLow(Rejected):
    """A domain's own refusal."""


GATES: dict[str, asyncio.Event] = {}
RUNS: Tally[str] = Tally()
"""How often handlers ran, by what they were told."""


def gate(name: str) -> asyncio.Event:
    return GATES.setdefault(name, asyncio.Event())


class Counter(Actor[Count], indexes=[Index(order="name")]):
    """Counts."""

    name = "counter"

    @query
    async def get(self, message: GetCount) -> Count:
        return self.state or not_found(f"no counter {message.name}")

    @query
    async def list_counts(self, message: ListCounts) -> list[Count]:
        return (await self.list(limit=1000)).items

    def _add(self, name: str, by: int) -> Count:
        self.state = Count(name, (self.state.value if self.state else 0) + by)
        self.emit(Added(name, by))
        return self.state

    @command
    async def add(self, message: Add) -> Count:
        RUNS[f"add {message.name}"] += 1
        if message.by == 0:
            raise TooLow("add at least one")
        return self._add(message.name, message.by)

    @command
    async def open_count(self, message: OpenCount) -> Count:
        if self.state is not None:
            raise Rejected(f"{self.key} is open already")
        return self._add(self.key, message.by)

    @command
    async def drop(self, message: DropCount) -> None:
        self.state = None

    @command
    async def reject(self, message: Reject) -> None:
        RUNS[f"reject {message.name}"] += 1
        self._add(message.name, 1000)
        raise TooLow("no")

    @command
    async def fail(self, message: Fail) -> None:
        self._add(message.name, 1000)
        match message.how:
            case "timeout":
                async with asyncio.timeout(0):
                    await asyncio.Event().wait()
            case "cancel":
                future = asyncio.get_running_loop().create_future()
                future.cancel("secret-4711")
                await future
            case "nested":
                await self.query(GetCount("none"))
            case _:
                raise RuntimeError("secret-4711")

    @command
    async def wait(self, message: Wait) -> int:
        RUNS[f"wait {message.name}"] += 1
        await gate(message.name).wait()
        return self._add(message.name, 1).value

    @command
    async def add_twice(self, message: AddTwice) -> int:
        RUNS[f"twice {message.name}"] += 1
        one = await self.command(Add(message.one))
        two = await self.command(Add(message.two))
        self._add(message.name, one.value + two.value)
        return one.value + two.value

    @command(accept=True)
    async def add_later(self, message: AddLater) -> None:
        RUNS[f"later {message.name}"] += 1
        self._add(message.name, message.by)


class Seen(msgspec.Struct, frozen=True):
    total: int = 0
    order: list[int] = []


class GetSeen(Query[Seen], actor="watcher", key="name"):
    name: str


class Watcher(Actor[Seen]):
    """Sums up what counters have added, in the order that it sees it."""

    name = "watcher"

    @react
    async def on_added(self, event: Added) -> None:
        before = self.state or Seen()
        self.state = Seen(before.total + event.by, [*before.order, event.by])

    @query
    async def get_seen(self, message: GetSeen) -> Seen:
        return self.state or Seen()


class Forward(Command[Count], actor="gateway"):
    """Adds to a counter by way of an actor without state."""

    name: str
    by: int = 1
    fail: bool = False


class Echo(Query[Any], actor="gateway"):
    value: Any = None


class AskEcho(Query[float | None], actor="gateway"):
    """What deadline a nested query sees."""


class TellDeadline(Query[float | None], actor="gateway"):
    pass


class Circle(Command[str], actor="gateway"):
    """Comes back to the counter that told it."""

    name: str


class Gateway(Actor):
    """Has no state."""

    name = "gateway"

    @command
    async def forward(self, message: Forward) -> Count:
        RUNS[f"forward {message.name}"] += 1
        count = await self.command(Add(message.name, message.by))
        if message.fail:
            raise RuntimeError("secret-4711")
        return count

    @query
    async def echo(self, message: Echo) -> Any:
        if message.value == "fail":
            raise RuntimeError("secret-4711")
        if message.value == "timeout":
            raise TimeoutError("secret-4711")
        if message.value == "cancel":
            future = asyncio.get_running_loop().create_future()
            future.cancel("secret-4711")
            await future
        if isinstance(message.value, str) and message.value.startswith("gate "):
            await gate(message.value).wait()
        return message.value

    @query
    async def ask(self, message: AskEcho) -> float | None:
        return await self.query(TellDeadline())

    @query
    async def tell(self, message: TellDeadline) -> float | None:
        return self.deadline

    @command
    async def circle(self, message: Circle) -> str:
        try:
            return str(await self.command(Around(message.name)))
        except CallCycle as error:
            return str(error)


class Around(Command[str], actor="rounds", key="name"):
    name: str


class Round(msgspec.Struct, frozen=True):
    laps: int = 0


class Rounds(Actor[Round]):
    """Tells the gateway to tell it the same."""

    name = "rounds"

    @command
    async def around(self, message: Around) -> str:
        return await self.command(Circle(message.name))
