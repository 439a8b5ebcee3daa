"""A counter, a ledger that reacts to it, and receipts that the ledger commands: every lost and every double effect shows.

Each `Add` is one step of the counter's value, one `Added` event that carries that value, one entry in the ledger; each
fourth is one receipt (a nested command), each sixteenth one `Tick` (a timer). After a run all of them are functions of the
number of commands that succeeded.
"""

import asyncio
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from runtime import Actor, Command, Event, Options, Query, RetryPolicy, command, query, react

RECEIPT_EVERY = 4
TICK_EVERY = 16
TICK_AFTER = 0.2

OPTIONS = Options(handled=8, resident=12, idle=1.0, retry=RetryPolicy(attempts=1000, first=0.05, longest=0.5))
"""Small, so that dedup entries are written and records are read again all the time."""


class Count(Struct, frozen=True):
    """What the counter knows of one key."""

    value: int = 0
    reminders: int = 0
    ticks: int = 0


class Total(Struct, frozen=True):
    """What the ledger knows of one key: events counted, their values' sum, the last one, and how many did not follow it."""

    count: int = 0
    sum: int = 0
    last: int = 0
    disorder: int = 0


class Receipt(Struct, frozen=True):
    """Receipts written for one key."""

    count: int = 0


class Add(Command[int], actor="counter", key="key"):
    """Count one; the reply is the new value."""

    key: str


class Tick(Command[None], actor="counter", key="key"):
    """A reminder that fired."""

    key: str


class GetCount(Query[Count], actor="counter", key="key"):
    key: str


class Added(Event, actor="counter", key="key"):
    key: str
    command: str
    value: int


class GetTotal(Query[Total], actor="ledger", key="key"):
    key: str


class Note(Command[None], actor="receipts", key="key"):
    """Write one receipt."""

    key: str


class GetReceipts(Query[Receipt], actor="receipts", key="key"):
    key: str


class Counter(Actor[Count]):
    """Counts."""

    name = "counter"
    options: ClassVar[Options] = OPTIONS

    @command
    async def add(self, message: Add) -> int:
        state = self.state or Count()
        await asyncio.sleep(0)  # other keys run meanwhile
        value = state.value + 1
        remind = value % TICK_EVERY == 0
        if remind:
            self.remind(TICK_AFTER, Tick(message.key))
        self.state = replace(state, value=value, reminders=state.reminders + remind)
        self.emit(Added(message.key, self.message_id, value))
        return value

    @command
    async def tick(self, message: Tick) -> None:
        state = self.state or Count()
        self.state = replace(state, ticks=state.ticks + 1)

    @query
    async def get_count(self, message: GetCount) -> Count:
        return self.state or Count()


class Ledger(Actor[Total]):
    """Keeps the books of the counter, event by event."""

    name = "ledger"
    options: ClassVar[Options] = OPTIONS

    @react
    async def on_added(self, event: Added) -> None:
        total = self.state or Total()
        if event.value % RECEIPT_EVERY == 0:
            await self.command(Note(event.key), timeout=2.0)
        self.state = Total(
            total.count + 1, total.sum + event.value, event.value, total.disorder + (event.value != total.last + 1)
        )

    @query
    async def get_total(self, message: GetTotal) -> Total:
        return self.state or Total()


class Receipts(Actor[Receipt]):
    """Counts what the ledger commands."""

    name = "receipts"
    options: ClassVar[Options] = OPTIONS

    @command
    async def note(self, message: Note) -> None:
        self.state = Receipt((self.state or Receipt()).count + 1)

    @query
    async def get_receipts(self, message: GetReceipts) -> Receipt:
        return self.state or Receipt()


ACTORS: dict[str, type[Actor]] = {"counter": Counter, "ledger": Ledger, "receipts": Receipts}
