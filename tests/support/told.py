"""Two actors for tests of `tell`: clerks write slips, and tills charge them."""

import os
from collections import Counter

import msgspec

from runtime import (
    Accepted,
    Actor,
    Command,
    Event,
    Options,
    Query,
    Rejected,
    RetryPolicy,
    command,
    new_key,
    query,
)

RUNS: Counter[str] = Counter()
"""The runs of the handler of `Charge`, by key and number."""

MENDED: set[str] = set()
"""The tills whose charges do not fail any more."""

SEEN: list[int] = []
"""The numbers that heralds have proclaimed."""


class Ledger(msgspec.Struct, frozen=True):
    numbers: tuple[int, ...] = ()


class Write(Command[str], actor="clerk", key="slip"):
    """Write a slip: tell the till `number`, and emit an event before and after it."""

    slip: str
    till: str
    number: int
    after: float = 0.0
    does: str = ""
    """``fail``: fail after the tell; ``twice``: tell another number, too; empty for nothing."""
    told: str = ""
    """The action of the till: see `Charge`."""


class Written(Event, actor="clerk", key="slip"):
    slip: str
    number: int


class Shout(Command[None], actor="clerk", key="slip"):
    """Tell the listeners, which do not run yet."""

    slip: str
    listener: str
    number: int


class Hear(Command[None], actor="listener", key="listener"):
    listener: str
    number: int


class GetHeard(Query[Ledger], actor="listener", key="listener"):
    listener: str


class Proclaim(Command[None], actor="herald", key="till"):
    till: str
    number: int


class GetSlips(Query[Ledger], actor="clerk", key="slip"):
    slip: str


class Charge(Command[int], actor="till", key="till"):
    till: str
    number: int
    does: str = ""
    """``fail``, ``fail once``, ``reject``, ``exit`` (once); empty for nothing."""


class OpenTill(Command[None], actor="till", key=new_key):
    number: int


class Audit(Command[None], actor="till", key="till"):
    till: str
    number: int


class Count(Command[Accepted], actor="till", key="till"):
    till: str
    number: int


class GetLedger(Query[Ledger], actor="till", key="till"):
    till: str


class Clerks(Actor[Ledger]):
    name = "clerk"

    @command
    async def write(self, message: Write) -> str:
        self.emit(Written(message.slip, message.number))
        told = self.tell(Charge(message.till, message.number, message.told), after=message.after)
        if message.does == "twice":
            self.tell(Charge(message.till, message.number + 1))
        self.emit(Written(message.slip, message.number))
        if message.does == "fail":
            raise RuntimeError("fails on purpose")
        state = self.state or Ledger()
        self.state = Ledger((*state.numbers, message.number))
        return told

    @command
    async def shout(self, message: Shout) -> None:
        self.tell(Hear(message.listener, message.number))

    @query
    async def get_slips(self, message: GetSlips) -> Ledger:
        return self.state or Ledger()


class Tills(Actor[Ledger]):
    name = "till"
    options = Options(retry=RetryPolicy(attempts=3, first=0.01))

    @command
    async def charge(self, message: Charge) -> int:
        RUNS[f"{message.till} {message.number}"] += 1
        match "" if message.till in MENDED else message.does:
            case "fail":
                raise RuntimeError("fails on purpose")
            case "fail once" if self.attempt == 1:
                raise RuntimeError("fails on purpose")
            case "reject":
                raise Rejected("refused on purpose")
            case "exit" if "HARMLESS" not in os.environ:
                os._exit(9)
            case _:
                return self._note(message.number)

    @command
    async def open_till(self, message: OpenTill) -> None:
        self._note(message.number)

    @command(internal=True)
    async def audit(self, message: Audit) -> None:
        self._note(message.number)

    @command(accept=True)
    async def count(self, message: Count) -> None:
        self._note(message.number)

    @query
    async def get_ledger(self, message: GetLedger) -> Ledger:
        return self.state or Ledger()

    def _note(self, number: int) -> int:
        state = self.state or Ledger()
        self.state = Ledger((*state.numbers, number))
        return len(self.state.numbers)


class PartedTills(Tills):
    name = "till"
    options = Options(partitions=4, retry=RetryPolicy(attempts=3, first=0.01))


class PartedClerks(Clerks):
    name = "clerk"
    options = Options(partitions=4)


class Listeners(Actor[Ledger]):
    name = "listener"

    @command
    async def hear(self, message: Hear) -> None:
        self.state = Ledger((*(self.state or Ledger()).numbers, message.number))

    @query
    async def get_heard(self, message: GetHeard) -> Ledger:
        return self.state or Ledger()


class Heralds(Actor):
    """An actor without state."""

    name = "herald"

    @command
    async def proclaim(self, message: Proclaim) -> None:
        SEEN.append(message.number)
        self.tell(Charge(message.till, message.number))


class Raise(Command[int], actor="till", key="till", formerly="Levy"):
    """The name of today of a command that was called `Levy`."""

    till: str
    number: int
    does: str = ""


class RenamedTills(Tills):
    name = "till"

    @command
    async def raise_levy(self, message: Raise) -> int:
        return self._note(message.number)
