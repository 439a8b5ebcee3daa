"""The actors that most tests of the runtime use: a counter per key, and a watcher that reacts to its events.

A message's name is its key. Tests follow and steer the handlers through `tests.support.handlers`.
"""

import asyncio

import msgspec

from runtime import (
    Accepted,
    Actor,
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
from tests.support.handlers import RUN_COUNTS, gate


class Count(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    value: int = 0


class GetCount(Query[Count], actor="counter", key="name", rename="camel"):
    """Returns the count of a key, or `NotFound`."""

    name: str


class ListCounts(Query[list[Count]], actor="counter"):
    """Returns all counts, ordered by name."""


class Add(Command[Count], actor="counter", key="name", rename="camel"):
    """Adds `by` and emits `Added`. The command is rejected with `TooLow` if `by` is 0."""

    name: str
    by: int = 1


class OpenCount(Command[Count], actor="counter", key=new_key):
    """Opens a counter under a new key."""

    by: int = 0


class DropCount(Command[None], actor="counter", key="name"):
    """Deletes the state of a key."""

    name: str


class Reject(Command[None], actor="counter", key="name"):
    """Changes the state, emits an event, and is then rejected with `TooLow`."""

    name: str


class Fail(Command[None], actor="counter", key="name"):
    """Changes the state, emits an event, and then fails in the way that `how` names.

    ``raise``: an exception. ``timeout``: a time-out inside the handler. ``cancel``: a cancelled future. ``nested``: a
    nested query that is not found.
    """

    name: str
    how: str = "raise"


class Wait(Command[int], actor="counter", key="name"):
    """Waits at the gate `name`, and adds one once the test has opened it."""

    name: str


class AddTwice(Command[int], actor="counter", key="name"):
    """Adds to two other counters with nested commands, and their sum to its own."""

    name: str
    one: str
    two: str


class AddLater(Command[Accepted], actor="counter", key="name"):
    """Adds `by`. The caller gets `Accepted` before the handler runs."""

    name: str
    by: int = 1


class Added(Event, actor="counter", key="name", rename="camel"):
    name: str
    by: int


class TooLow(Rejected):
    """A rejection that the domain defines."""


class Counter(Actor[Count], indexes=[Index(order="name")]):
    """Keeps one count per key."""

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
        RUN_COUNTS[f"add {message.name}"] += 1
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
        RUN_COUNTS[f"reject {message.name}"] += 1
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
        RUN_COUNTS[f"wait {message.name}"] += 1
        await gate(message.name).wait()
        return self._add(message.name, 1).value

    @command
    async def add_twice(self, message: AddTwice) -> int:
        RUN_COUNTS[f"twice {message.name}"] += 1
        one = await self.command(Add(message.one))
        two = await self.command(Add(message.two))
        self._add(message.name, one.value + two.value)
        return one.value + two.value

    @command(accept=True)
    async def add_later(self, message: AddLater) -> None:
        RUN_COUNTS[f"later {message.name}"] += 1
        self._add(message.name, message.by)


class Seen(msgspec.Struct, frozen=True):
    total: int = 0
    order: list[int] = []


class GetSeen(Query[Seen], actor="watcher", key="name"):
    name: str


class Watcher(Actor[Seen]):
    """Keeps the sum of all `Added` events of a key, and their amounts in the order of handling."""

    name = "watcher"

    @react
    async def on_added(self, event: Added) -> None:
        before = self.state or Seen()
        self.state = Seen(before.total + event.by, [*before.order, event.by])

    @query
    async def get_seen(self, message: GetSeen) -> Seen:
        return self.state or Seen()
