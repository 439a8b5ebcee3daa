"""An actor whose long jobs make checkpoints, for tests. A tally counts their commands."""

import asyncio
import os
from collections import Counter, defaultdict
from pathlib import Path

import msgspec

from runtime import (
    Accepted,
    Actor,
    Command,
    Event,
    Options,
    Query,
    RetryPolicy,
    command,
    new_key,
    query,
    react,
)

BEGUN: Counter[str] = Counter()
"""The runs of the jobs, by key."""
GATES: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
"""By key and page, the gates at which jobs wait."""
COMMITTED: list[str] = []
"""The notes of `on_commit`, each with the key and the page."""


class Pages(msgspec.Struct, frozen=True):
    pages: tuple[int, ...] = ()
    title: str = ""


class Print(Command[Accepted], actor="press", key="book"):
    """Print the pages of a book: each is a command to the tally, an event, and a part of the state."""

    book: str
    pages: int
    does: str = ""
    """``fail 3``, ``exit 3``, ``wait 3`` (and emit), ``hold 3``, ``spoil 3``, ``large 3``: at page 3, after its checkpoint; ``catch 3``: wait, and catch a
    cancellation; ``deaf 3``: wait, and go on after one; ``beside 3``: change something while a checkpoint is under way; ``leave``: at the
    beginning, do not wait for a checkpoint. Empty for nothing."""


class PrintNew(Command[Accepted], actor="press", key=new_key):
    pages: int


class Retitle(Command[None], actor="press", key="book"):
    book: str
    title: str


class Wrong(Command[None], actor="press", key="book"):
    book: str


class Printed(Event, actor="press", key="book"):
    book: str
    page: int


class GetPages(Query[Pages], actor="press", key="book"):
    book: str


class Tally(Command[int], actor="tally", key="book"):
    book: str
    page: int


class GetTally(Query[Pages], actor="tally", key="book"):
    book: str


class Press(Actor[Pages]):
    name = "press"
    options = Options(retry=RetryPolicy(attempts=3, first=0.01))

    @command(accept=True)
    async def print(self, message: Print) -> None:
        BEGUN[message.book] += 1
        does, _, at = message.does.partition(" ")
        if not at:
            await self._do(does, message.book)
        while (page := len((self.state or Pages()).pages)) < message.pages:
            await self._print(page)
            if at == str(page):
                await self._do(does, message.book)
        self.emit(Printed(message.book, -1))

    @command(accept=True)
    async def print_new(self, message: PrintNew) -> None:
        for page in range(message.pages):
            await self._print(page)

    async def _print(self, page: int) -> None:
        await self.command(Tally(self.key, page))
        self.emit(Printed(self.key, page))
        self.tell(Tally(f"{self.key} told", page))
        note = f"{self.key} {page}"
        self.on_commit(lambda: COMMITTED.append(note))
        state = self.state or Pages()
        self.state = msgspec.structs.replace(state, pages=(*state.pages, page))
        await self.checkpoint()

    async def _do(self, does: str, book: str) -> None:
        state = self.state or Pages()
        match does:
            case "fail" if self.attempt == 1 and BEGUN[book] < 3:
                raise RuntimeError("fails on purpose")
            case "exit" if (flag := Path(os.environ["FLAG"])).exists():
                flag.unlink()
                os._exit(9)
            case "wait":
                self.state = msgspec.structs.replace(state, title="never stored")
                self.emit(Printed(book, 1000))
                GATES[f"{book} begun"].set()
                await GATES[book].wait()
            case "hold":
                GATES[f"{book} begun"].set()
                await GATES[book].wait()
            case "catch":
                GATES[f"{book} begun"].set()
                try:
                    await GATES[book].wait()
                except asyncio.CancelledError:
                    self.state = msgspec.structs.replace(state, title="cancelled")
                    self.emit(Printed(book, -2))
            case "deaf":
                GATES[f"{book} begun"].set()
                try:
                    await GATES[book].wait()
                except asyncio.CancelledError:
                    await GATES[f"{book} deaf"].wait()
            case "beside" | "leave":
                self.state = msgspec.structs.replace(state, title="before")
                made = asyncio.ensure_future(self.checkpoint())
                await asyncio.sleep(0)
                if does == "leave":
                    made.cancel()
                    return
                self.emit(Printed(book, 1000))
                self.state = msgspec.structs.replace(self.state, title="beside")
                await made
            case "large":
                self.state = msgspec.structs.replace(state, title="x" * 2_000_000)
                await self.checkpoint()
            case "spoil":
                self.state = msgspec.structs.replace(state, title=7)
                await self.checkpoint()
            case _:
                pass

    @command
    async def retitle(self, message: Retitle) -> None:
        self.state = msgspec.structs.replace(self.state or Pages(), title=message.title)

    @command
    async def wrong(self, message: Wrong) -> None:
        await self.checkpoint()

    @query
    async def get_pages(self, message: GetPages) -> Pages:
        return self.state or Pages()


class PartedPress(Press):
    name = "press"
    options = Options(partitions=4, retry=RetryPolicy(attempts=3, first=0.01))


class Tallies(Actor[Pages]):
    name = "tally"

    @command
    async def tally(self, message: Tally) -> int:
        state = self.state or Pages()
        self.state = Pages((*state.pages, message.page))
        return len(self.state.pages)

    @query
    async def get_tally(self, message: GetTally) -> Pages:
        return self.state or Pages()

    @react(key="book")
    async def on_printed(self, event: Printed) -> None:
        pass


class Grind(Command[Accepted], actor="grinder", key="grain"):
    """Fail in the first run, and wait in each further one."""

    grain: str


class Grinders(Actor[Pages]):
    name = "grinder"
    options = Options(retry=RetryPolicy(attempts=1))

    @command(accept=True)
    async def grind(self, message: Grind) -> None:
        BEGUN[message.grain] += 1
        if BEGUN[message.grain] == 1:
            raise RuntimeError("fails on purpose")
        GATES[f"{message.grain} begun"].set()
        await GATES[message.grain].wait()


class Bulk(Command[Accepted], actor="bulk"):
    pages: int


class Bulks(Actor):
    """An actor without state."""

    name = "bulk"

    @command(accept=True)
    async def bulk(self, message: Bulk) -> None:
        await self.checkpoint()
