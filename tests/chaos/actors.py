"""A counter, a ledger that reacts to it, and receipts that the ledger commands. They show every lost and double effect.

Each `Add` raises the counter by one, emits one `Added` event with the new value, and adds one entry to the ledger. Every
fourth one also adds a receipt (a nested command), and every sixteenth a `Tick` (a timer). After a run all these numbers
follow from the number of commands that succeeded.
"""

import asyncio
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from runtime import Actor, Command, Event, Options, Query, RetryPolicy, command, query, react

RECEIPT_EVERY = 4
TICK_EVERY = 16
TICK_AFTER = 0.2
"""Seconds until a tick is due."""

OPTIONS = Options(handled=8, resident=12, idle=1.0, retry=RetryPolicy(attempts=1000, first=0.05, longest=0.5))
"""Small limits, so that dedup entries are written and records are loaded all the time."""


SLOW = "slow"
"""The first part of a key whose handlers take the seconds in its second part: ``slow-3-a``."""


def seconds_of(key: str) -> float:
    """Return the seconds that the handlers of a key take."""
    return float(key.split("-")[1]) if key.startswith(SLOW) else 0.0


class Count(Struct, frozen=True):
    """The counter's state of one key: its value, and the numbers of timers that were set and that fired."""

    value: int = 0
    reminders: int = 0
    ticks: int = 0


class Total(Struct, frozen=True):
    """The ledger's state of one key.

    The number of events, the sum of their values, the last value, and the number of events out of order.
    """

    count: int = 0
    sum: int = 0
    last: int = 0
    disorder: int = 0


class Receipt(Struct, frozen=True):
    """The number of receipts of one key."""

    count: int = 0


class Add(Command[int], actor="counter", key="key"):
    """Adds one. The reply is the new value."""

    key: str


class Tick(Command[None], actor="counter", key="key"):
    """The command of a timer."""

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
    """Adds one receipt."""

    key: str


class GetReceipts(Query[Receipt], actor="receipts", key="key"):
    key: str


class Counter(Actor[Count]):
    """Keeps a value per key."""

    name = "counter"
    options: ClassVar[Options] = OPTIONS

    @command
    async def add(self, message: Add) -> int:
        state = self.state or Count()
        await asyncio.sleep(seconds_of(message.key))  # lets other keys run, if it is 0
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
    """Adds up the events of the counter."""

    name = "ledger"
    options: ClassVar[Options] = OPTIONS

    @react
    async def on_added(self, event: Added) -> None:
        total = self.state or Total()
        await asyncio.sleep(seconds_of(event.key))
        if event.value % RECEIPT_EVERY == 0:
            await self.command(Note(event.key), timeout=2.0)
        self.state = Total(
            total.count + 1, total.sum + event.value, event.value, total.disorder + (event.value != total.last + 1)
        )

    @query
    async def get_total(self, message: GetTotal) -> Total:
        return self.state or Total()


class Receipts(Actor[Receipt]):
    """Counts the commands of the ledger."""

    name = "receipts"
    options: ClassVar[Options] = OPTIONS

    @command
    async def note(self, message: Note) -> None:
        self.state = Receipt((self.state or Receipt()).count + 1)

    @query
    async def get_receipts(self, message: GetReceipts) -> Receipt:
        return self.state or Receipt()


ACTORS: dict[str, type[Actor]] = {"counter": Counter, "ledger": Ledger, "receipts": Receipts}
