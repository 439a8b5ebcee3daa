"""Handlers that run random programs, with a fault before any of their steps. A ledger shows what they have done.

A program has a label. Whatever it does carries the label: an entry of the ledger, a state, an event.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import msgspec

from runtime import Actor, Command, Event, Query, Rejected, RequestError, command, query

KEYS = ("a", "b", "c")

Fault = Callable[[str], Awaitable[None]]
"""Brings about a fault while a handler of a key runs."""

FAULTS: dict[str, Fault] = {}
"""By name; the test fills it."""


class Step(msgspec.Struct, frozen=True):
    does: str
    """One of `STEPS`."""
    fault: str = ""
    """The fault before it, in the first run only; empty for none."""


STEPS = {
    "enter": 8,
    "enter twice": 2,
    "enter, whatever happens": 2,
    "enter at last": 1,
    "delegate": 2,
    "look": 2,
    "emit": 2,
    "store": 3,
    "store too much": 1,
    "call back": 1,
    "pause": 3,
    "hang": 1,
    "raise": 1,
    "reject": 2,
    "answer false": 1,
}
"""The steps of a program, with their weights."""


class Entry(msgspec.Struct, frozen=True):
    count: int = 0


class Enter(Command[int], actor="ledger", key="label"):
    label: str


class CountEntries(Query[int], actor="ledger", key="label"):
    label: str


class Ledger(Actor[Entry]):
    name = "ledger"

    @command
    async def enter(self, message: Enter) -> int:
        self.state = Entry((self.state or Entry()).count + 1)
        return self.state.count

    @query
    async def count_entries(self, message: CountEntries) -> int:
        return (self.state or Entry()).count


class Done(msgspec.Struct, frozen=True):
    labels: tuple[str, ...] = ()
    memo: str = ""


class ProgramRecorded(Event, actor="doer", key="key"):
    key: str
    label: str


class Do(Command[int], actor="doer", key="key"):
    """Runs a program on a key."""

    key: str
    label: str
    steps: tuple[Step, ...]


class DoFreely(Command[int], actor="doers"):
    """Runs a program without a state."""

    label: str
    steps: tuple[Step, ...]


class Interrupt(BaseException):
    """An exception that is no `Exception`."""


_FIRED: set[tuple[str, str, int]] = set()
"""The faults that were brought about, so that a second run has none."""


class Doer(Actor[Done]):
    """Runs programs, one at a time on each key."""

    name = "doer"

    @command
    async def do(self, message: Do) -> int:
        await run_program(self, message)
        done = self.state or Done()
        self.state = Done((*done.labels, message.label), done.memo)
        return len(self.state.labels)


class Doers(Actor):
    """Runs programs beside each other."""

    name = "doers"

    @command
    async def do_freely(self, message: DoFreely) -> int:
        await run_program(self, message)
        return 1


async def run_program(actor: Doer | Doers, message: Do | DoFreely) -> None:
    for number, step in enumerate(message.steps):
        fired = (message.label, actor.key, number)
        if step.fault and fired not in _FIRED:
            _FIRED.add(fired)
            await FAULTS[step.fault](actor.key)
        if step.does == "enter at last":
            try:
                await asyncio.sleep(0)
                await run_program(actor, msgspec.structs.replace(message, steps=message.steps[number + 1 :]))
            finally:
                await actor.command(Enter(message.label))
            return
        await run_step(actor, message, step.does)


async def run_step(actor: Doer | Doers, message: Do | DoFreely, does: str) -> None:
    label = message.label
    match does:
        case "enter":
            await actor.command(Enter(label))
        case "enter twice":
            async with asyncio.TaskGroup() as group:
                for _ in range(2):
                    group.create_task(actor.command(Enter(label)))
        case "enter, whatever happens":
            await asyncio.gather(actor.command(Enter(label)), actor.command(Enter(label)), return_exceptions=True)
        case "delegate":
            own = KEYS.index(actor.key) if actor.key else 0
            steps = (Step("enter"), *random.Random(label).choices([Step("reject"), Step("store"), Step("raise")]))
            await actor.command(Do(KEYS[min(own + 1, len(KEYS) - 1)], label, steps))
        case "look":
            await actor.query(CountEntries(label))
        case "emit" if isinstance(actor, Doer):
            actor.emit(ProgramRecorded(actor.key, label))
        case "store" | "store too much" if isinstance(actor, Doer):
            done = actor.state or Done()
            actor.state = Done((*done.labels, label), "x" * 20_000 if does == "store too much" else "")
        case "call back":
            actor.on_commit(_interrupt)
        case "pause":
            for _ in range(len(message.steps)):
                await asyncio.sleep(0)
        case "hang":
            await asyncio.Event().wait()
        case "raise":
            raise Interrupt
        case "reject":
            raise Rejected("no")
        case "answer false":
            refusal = RequestError("no")
            refusal.executed = False
            raise refusal


def _interrupt() -> None:
    raise Interrupt


def random_steps(rng: random.Random, faults: list[str]) -> tuple[Step, ...]:
    """Return the steps of a program. `faults` are used up."""
    chosen = rng.choices([*STEPS], [*STEPS.values()], k=rng.randint(1, 6))
    return tuple(Step(does, faults.pop() if faults and rng.random() < 0.3 else "") for does in chosen)
