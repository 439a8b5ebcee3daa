"""A bank: accounts, transfers by nested commands and by events, and a ledger that adds up all movements.

Each movement of money raises the version of its account by one and emits one `Moved` event. The events are the history of an
account: the state of each version follows from them, and with it all that a query may answer. The ledger counts them.
"""

import asyncio
import os
import re
import time
from typing import ClassVar, NoReturn

from msgspec import Struct

from runtime import (
    Actor,
    Command,
    Event,
    Index,
    Options,
    Query,
    Rejected,
    RetryPolicy,
    command,
    not_found,
    query,
    react,
)

OPTIONS = Options(handled=8, resident=200, idle=2.0, retry=RetryPolicy(attempts=1000, first=0.05, longest=0.5))
"""Small limits, so that dedup entries are written and records are loaded all the time."""

PAGE = 10
"""Accounts of a page."""

_OVERDRAWN = re.compile(r"version (\d+) has (-?\d+)")


class Account(Struct, frozen=True):
    """The state of an account."""

    branch: str
    account: str
    balance: int = 0
    version: int = 0
    """The number of movements."""
    note: str = ""
    """The text of the last deposit. A long one makes the record too large for a stream with a limit."""


class Slip(Struct, frozen=True):
    """The version and the balance of an account."""

    version: int
    balance: int


class Transferred(Struct, frozen=True):
    """The slips of both accounts of a transfer."""

    here: Slip
    there: Slip


class Deposit(Command[Slip], actor="bank", key="account"):
    """Adds money."""

    account: str
    amount: int
    origin: str = ""
    """Id of the transfer that this deposit belongs to."""
    note: str = ""
    pause: float = 0.0
    """Seconds for which the handler awaits."""
    block: float = 0.0
    """Seconds for which the handler blocks its process, if this is the process with the id `process`."""
    process: int = 0


class Withdraw(Command[Slip], actor="bank", key="account"):
    """Takes money; rejected as `Overdrawn` if there is too little."""

    account: str
    amount: int


class Transfer(Command[Transferred], actor="bank", key="account"):
    """Moves money to another account by a nested command. Rejected as `Overdrawn` if there is too little."""

    account: str
    amount: int
    to: str


class Send(Command[Slip], actor="bank", key="account"):
    """Moves money to another account by an event. Rejected as `Overdrawn` if there is too little."""

    account: str
    amount: int
    to: str


class Overdrawn(Rejected):
    """The account has too little money. The text contains its version and its balance."""


class Moved(Event, actor="bank", key="account"):
    """A movement of money; `to` is set if a reaction deposits the money there."""

    account: str
    version: int
    amount: int
    balance: int
    command: str
    """Id of the message that moved the money."""
    origin: str = ""
    """Id of the transfer that it belongs to, for the deposit of a transfer."""
    to: str = ""


class GetAccount(Query[Slip], actor="bank", key="account"):
    account: str


class ListBranch(Query[dict[str, Slip]], actor="bank"):
    """Returns all accounts of a branch, by name."""

    branch: str


class Accounts(Struct, frozen=True):
    """A page of accounts, by name, and the token of the next page."""

    slips: dict[str, Slip]
    next: str | None = None


class PageBranch(Query[Accounts], actor="bank"):
    """Returns a page of the accounts of a branch, in the order of their names, which never changes."""

    branch: str
    after: str | None = None


class Entries(Struct, frozen=True):
    """The ledger's state of one account: number and sum of its movements, the last version, and those out of order."""

    count: int = 0
    sum: int = 0
    last: int = 0
    disorder: int = 0


def branch_of(account: str) -> str:
    """Return the branch of an account, the first part of its name."""
    return account.partition("-")[0]


def read_overdrawn(text: str) -> Slip:
    """Return the version and the balance in the text of an `Overdrawn`."""
    found = _OVERDRAWN.search(text)
    assert found is not None, text
    return Slip(int(found[1]), int(found[2]))


class Bank(Actor[Account], indexes=[Index("branch", order="balance"), Index("branch", order="account")]):
    """Keeps accounts."""

    name = "bank"
    options: ClassVar[Options] = OPTIONS

    @command
    async def deposit(self, message: Deposit) -> Slip:
        if message.pause:
            await asyncio.sleep(message.pause)
        if message.process == os.getpid():
            time.sleep(message.block)  # noqa: ASYNC251 - the fault under test
        return self._move(message.amount, message.origin, note=message.note)

    @command
    async def withdraw(self, message: Withdraw) -> Slip:
        self._require(message.amount)
        return self._move(-message.amount)

    @command
    async def transfer(self, message: Transfer) -> Transferred:
        self._require(message.amount)
        there = await self.command(Deposit(message.to, message.amount, origin=self.message_id), timeout=2.0)
        return Transferred(self._move(-message.amount), there)

    @command
    async def send(self, message: Send) -> Slip:
        self._require(message.amount)
        return self._move(-message.amount, to=message.to)

    @react(where={"to": [{"anything-but": [""]}]}, key="to")
    async def on_moved(self, event: Moved) -> None:
        self._move(-event.amount, event.command)

    @query
    async def get_account(self, message: GetAccount) -> Slip:
        state = self.state or not_found(f"there is no account {message.account}")
        return Slip(state.version, state.balance)

    @query
    async def list_branch(self, message: ListBranch) -> dict[str, Slip]:
        page = await self.list(branch=message.branch, order="balance", limit=1000)
        return {state.account: Slip(state.version, state.balance) for state in page.items}

    @query
    async def page_branch(self, message: PageBranch) -> Accounts:
        page = await self.list(branch=message.branch, order="account", limit=PAGE, after=message.after)
        return Accounts({state.account: Slip(state.version, state.balance) for state in page.items}, page.next)

    def _move(self, amount: int, origin: str = "", *, to: str = "", note: str = "") -> Slip:
        state = self.state or Account(branch_of(self.key), self.key)
        version, balance = state.version + 1, state.balance + amount
        self.state = Account(state.branch, state.account, balance, version, note)
        self.emit(Moved(self.key, version, amount, balance, self.message_id, origin, to))
        return Slip(version, balance)

    def _require(self, amount: int) -> None:
        state = self.state or Account("", "")
        if state.balance < amount:
            _reject(state)


def _reject(state: Account) -> NoReturn:
    raise Overdrawn(f"the account of version {state.version} has {state.balance}")


class Books(Actor[Entries]):
    """Adds up the movements of each account."""

    name = "books"
    options: ClassVar[Options] = OPTIONS

    @react
    async def on_moved(self, event: Moved) -> None:
        entries = self.state or Entries()
        self.state = Entries(
            entries.count + 1,
            entries.sum + event.amount,
            event.version,
            entries.disorder + (event.version != entries.last + 1),
        )
