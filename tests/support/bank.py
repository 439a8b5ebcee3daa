"""A bank: accounts that send money to each other by nested commands, in handlers of many forms."""

import asyncio
from contextlib import suppress

import msgspec

from runtime import Actor, Command, Query, Rejected, RequestError, command, query
from tests.support.handlers import RUN_COUNTS, gate


class Account(msgspec.Struct, frozen=True):
    balance: int = 0
    memo: str = ""


class GetBalance(Query[int], actor="bank", key="account"):
    account: str


class Deposit(Command[int], actor="bank", key="account"):
    """Adds an amount. A long memo makes the record larger than the stream of a test may take."""

    account: str
    amount: int
    memo: str = ""


class Transfer(Command[int], actor="bank", key="account"):
    """Sends an amount to another account by a nested `Deposit`; `form` is a key of `FORMS`, or that of `leave_behind`."""

    account: str
    to: str
    amount: int
    form: str = "plain"


class Tip(Command[str], actor="bank", key="account"):
    """Sends 1 to the account `rich` from a balance of 100, to `poor` from a lower one, and returns its name.

    After that, the n-th run of the handler waits at the gate ``<hold> <n>``, if `hold` is given."""

    account: str
    rich: str
    poor: str
    hold: str = ""


class TooPoor(Rejected):
    """The account does not have the amount."""


class Bank(Actor[Account]):
    """Its handlers count their runs as ``"transfer <account>"``."""

    name = "bank"

    @query
    async def get_balance(self, message: GetBalance) -> int:
        return (self.state or Account()).balance

    @command
    async def deposit(self, message: Deposit) -> int:
        self.state = Account((self.state or Account()).balance + message.amount, message.memo)
        return self.state.balance

    @command
    async def transfer(self, message: Transfer) -> int:
        RUN_COUNTS[f"transfer {message.account}"] += 1
        account = self.state or Account()
        if account.balance < message.amount:
            raise TooPoor(f"the account has {account.balance}")
        await FORMS.get(message.form, leave_behind)(self, message)
        self.state = Account(account.balance - message.amount)
        return self.state.balance

    @command
    async def tip(self, message: Tip) -> str:
        RUN_COUNTS[f"tip {message.account}"] += 1
        balance = (self.state or Account()).balance
        if balance < 1:
            raise TooPoor("nothing is left")
        to = message.rich if balance >= 100 else message.poor
        await self.command(Deposit(to, 1))
        if message.hold:
            await gate(f"{message.hold} {RUN_COUNTS[f'tip {message.account}']}").wait()
        self.state = Account(balance - 1)
        return to


async def _plain(bank: Bank, message: Transfer) -> None:
    await bank.command(Deposit(message.to, message.amount))


async def _group(bank: Bank, message: Transfer) -> None:
    async with asyncio.TaskGroup() as group:
        for part in (1, message.amount - 1):
            group.create_task(bank.command(Deposit(message.to, part)))


async def _gather(bank: Bank, message: Transfer) -> None:
    await asyncio.gather(*(bank.command(Deposit(message.to, part)) for part in (1, message.amount - 1)))


async def _gather_all(bank: Bank, message: Transfer) -> None:
    sent = (bank.command(Deposit(message.to, part)) for part in (1, message.amount - 1))
    await asyncio.gather(*sent, return_exceptions=True)


async def _stubborn(bank: Bank, message: Transfer) -> None:
    for _ in range(3):
        with suppress(BaseException):
            await bank.command(Deposit(message.to, message.amount))
            return


async def _at_last(bank: Bank, message: Transfer) -> None:
    try:
        await bank.command(Deposit(message.to, 1))
    finally:
        await bank.command(Deposit(message.to, message.amount - 1))


async def _shielded(bank: Bank, message: Transfer) -> None:
    await asyncio.shield(bank.command(Deposit(message.to, message.amount)))


async def _impatient(bank: Bank, message: Transfer) -> None:
    with suppress(TimeoutError, RequestError):
        await bank.command(Deposit(message.to, message.amount), timeout=0)
    await bank.command(Deposit(message.to, message.amount))


async def leave_behind(bank: Bank, message: Transfer) -> None:
    """Send the command in a task, and do not await it."""
    LEFT_BEHIND.append(asyncio.ensure_future(bank.command(Deposit(message.to, message.amount))))
    await asyncio.sleep(0)


LEFT_BEHIND: list[asyncio.Future[int]] = []
"""The tasks of `leave_behind`."""

FORMS = {
    "plain": _plain,
    "group": _group,
    "gather": _gather,
    "gather all": _gather_all,
    "stubborn": _stubborn,
    "at last": _at_last,
    "shielded": _shielded,
    "impatient": _impatient,
}
"""The ways in which a handler may send its nested commands."""
