"""Actors whose handlers do not end by themselves, in every kind of handler."""

import asyncio
import os
import time
from typing import Any

import msgspec

from runtime import Accepted, Actor, Command, Event, Options, Query, RetryPolicy, command, query, react
from tests.support.handlers import RUN_COUNTS, gate

ATTEMPTS = 2


class State(msgspec.Struct, frozen=True):
    done: int = 0


class Stopped(Event, actor="slow", key="name"):
    """Emitted before a handler hangs. It is never published."""

    name: str


class Look(Query[int], actor="slow", key="name"):
    name: str
    how: str = "well"


class LookAll(Query[int], actor="sloth"):
    how: str = "well"


class Do(Command[int], actor="slow", key="name"):
    name: str
    how: str = "well"


class DoLong(Command[int], actor="slow", key="name"):
    """Its handler has no limit, and is not cut at the deadline."""

    name: str
    how: str = "well"


class DoAll(Command[int], actor="sloth"):
    how: str = "well"


class Later(Command[None], actor="slow", key="name"):
    name: str
    how: str


class Ring(Command[None], actor="slow", key="name"):
    name: str
    how: str


class Job(Command[Accepted], actor="slow", key="name"):
    name: str
    how: str


class Happened(Event, actor="slow", key="name"):
    name: str
    how: str = "well"


async def hang(how: str, actor: Actor[Any]) -> None:
    """Wait in the way that `how` names, and count how it ends."""
    if how == "well":
        return
    name, _, gated = how.partition(" ")
    RUN_COUNTS[f"hang {how}"] += 1
    opened = gate(gated) if gated else asyncio.Event()
    try:
        await opened.wait()
    except asyncio.CancelledError:
        RUN_COUNTS[f"cut {how}"] += 1
        match name:
            case "clean":  # takes a moment to clean up
                await asyncio.sleep(0)
                RUN_COUNTS[f"cleaned {how}"] += 1
                raise
            case "returns":  # as if nothing had happened
                return
            case "other":
                raise ValueError("another error") from None
            case "deaf":
                await _ignore_all(gated, actor)
                return
            case "late":  # cleans up for longer than anybody waits
                await gate(gated).wait()
                raise
            case _:
                raise
    RUN_COUNTS[f"passed {how}"] += 1


async def _ignore_all(gated: str, actor: Actor[Any]) -> None:
    opened = asyncio.ensure_future(gate(gated).wait())
    while not opened.done():
        try:
            await asyncio.wait([opened])
        except asyncio.CancelledError:
            RUN_COUNTS[f"deaf {gated}"] += 1
    for action in (
        lambda: actor.emit(Stopped("late")),
        lambda: setattr(actor, "state", State(99)),
        lambda: actor.remind(0, Ring("late", "well")),
        lambda: actor.on_commit(lambda: None),
    ):
        try:
            action()
        except RuntimeError:
            RUN_COUNTS[f"refused {gated}"] += 1
    try:
        await actor.command(Do("late"))
    except RuntimeError:
        RUN_COUNTS[f"refused {gated}"] += 1
    RUN_COUNTS[f"over {gated}"] += 1


RETRY = RetryPolicy(attempts=ATTEMPTS, first=0.01, longest=0.02)


class Slow(Actor[State]):
    """An actor with a state."""

    name = "slow"
    options = Options(retry=RETRY)

    async def _act(self, how: str) -> int:
        self.state = State((self.state or State()).done + 1)
        if how != "well":
            self.emit(Stopped(self.key))
        await hang(how, self)
        return (self.state or State()).done

    @query
    async def look(self, message: Look) -> int:
        await hang(message.how, self)
        return (self.state or State()).done

    @command
    async def do(self, message: Do) -> int:
        return await self._act(message.how)

    @command(limit=float("inf"))
    async def do_long(self, message: DoLong) -> int:
        return await self._act(message.how)

    @command
    async def later(self, message: Later) -> None:
        self.remind(0, Ring(message.name, message.how))

    @command
    async def ring(self, message: Ring) -> None:
        await self._act(message.how)

    @command(accept=True)
    async def job(self, message: Job) -> None:
        await self._act(message.how)

    @react
    async def on_happened(self, event: Happened) -> None:
        await self._act(event.how)


class Sloth(Actor):
    """An actor without a state."""

    name = "sloth"
    options = Options(retry=RETRY)

    @query
    async def look(self, message: LookAll) -> int:
        await hang(message.how, self)
        return 1

    @command
    async def do(self, message: DoAll) -> int:
        await hang(message.how, self)
        return 1

    @react(limit=0.1)
    async def on_happened(self, event: Happened) -> None:
        if event.how != "well":
            await hang("plain", self)


class Block(Command[None], actor="stuck"):
    """Waits for a thread that does not end, or ignores its cancellation."""

    thread: bool


class Stuck(Actor):
    """Its handlers outlive the drain of their process."""

    name = "stuck"
    options = Options(limit=float("inf"))

    @command
    async def block(self, message: Block) -> None:
        print("blocked", flush=True)
        if message.thread:
            await asyncio.to_thread(time.sleep, 1000)
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                print("ignored", flush=True)


if "QUICK" in os.environ:  # a process of a test does not wait for seconds
    from runtime.cli import event_loop
    from runtime.host import drain
    from runtime.turns import workers

    drain._DRAIN_TIMEOUT = 0.5
    workers.GRACE = 0.2  # pyright: ignore[reportPrivateImportUsage]
    event_loop._END = 0.3  # pyright: ignore[reportConstantRedefinition]
