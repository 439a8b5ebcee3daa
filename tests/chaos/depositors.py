"""Customers of the bank: they move money and read accounts, and record each operation in a `History`.

An account has one holder, who alone takes money from it and has one such command under way at a time; everybody may deposit
and read. A transfer that was covered once therefore stays covered until its outcome is known, however often it runs.
"""

import asyncio
import random
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from msgspec.structs import replace

from runtime import Bus, Command, NotFound, Query, RequestError, TooLarge
from runtime.errors import DeadlineExceeded, HandlerFailed, NotDelivered, Overloaded
from runtime.wire.ids import new_id
from tests.chaos.bank import (
    Deposit,
    GetAccount,
    ListBranch,
    Overdrawn,
    PageBranch,
    Send,
    Slip,
    Transfer,
    Transferred,
    Withdraw,
    branch_of,
    read_overdrawn,
)
from tests.chaos.fleet import until
from tests.chaos.history import History, Operation

R = TypeVar("R")

EMPTY: Mapping[str, Slip] = MappingProxyType({})
BRANCHES = 3
FOREIGN_SHARE = 0.3
"""Share of ids that contain no time, like ids that other programs choose."""
GIVE_UP_SHARE = 0.3
"""Share of commands that a holder gives up if the first attempts were certainly without effect."""
READ_BACK_SHARE = 0.3
"""Share of commands after which the same customer reads the account at once."""
PAGED_SHARE = 0.3
"""Share of lists that are read page by page."""
PAUSE_SHARE = 0.25
"""Share of deposits whose handler awaits for a while, so that faults meet running handlers."""
LONG_TIMEOUT = 10.0
"""Seconds for which a waiting customer, or one of a burst, waits."""
ATTEMPT = "single attempt"
"""The kind of the wait for the outcome of a command that is sent once."""
BURST = 8
"""Old accounts that get a deposit in a burst."""
MOVEMENTS = 80
"""Commands after which a holder opens a new account in place of an old one."""
RESOLVE_TIMEOUT = 60.0
"""Seconds after the faults within which each outcome must become known."""


@dataclass
class Crowd:
    """The numbers of customers of each kind, and their pauses."""

    holders: int = 6
    """Patient customers: they send a command again, under its id, until its outcome is known."""
    accounts: int = 3
    """Accounts of each holder."""
    waiters: int = 4
    """Customers with an account of their own who send a command once, wait for ten seconds, and ask again much later."""
    hasty: int = 4
    """Customers like these who wait for 0.3 s only."""
    readers: int = 6
    listers: int = 1
    pause: float = 0.01
    """Average seconds between two commands of a holder."""
    read_pause: float = 0.002
    """Average seconds between two queries of a reader."""
    timeout: float = 1.5
    """Seconds of one attempt of a holder or reader."""
    transfers: bool = True
    """Whether holders transfer money by nested commands."""


class Depositors:
    """All customers of one bank.

    Args:
        bus: Sends their messages.
        rng: Chooses accounts, amounts and pauses.
        crowd: Their numbers.
        known: The states of the accounts that exist already; by default there are none.
    """

    def __init__(
        self, bus: Bus, rng: random.Random, crowd: Crowd | None = None, known: Mapping[str, Slip] = EMPTY
    ) -> None:
        self.bus = bus
        self.crowd = crowd or Crowd()
        self.history = History(base=dict(known))
        self.accounts: list[str] = list(known)
        """All accounts, in the order in which they were named. A new one is read before its first deposit."""
        self.quiet: list[str] = []
        """Accounts to which one customer deposits now and then, and nobody else."""
        self.bursts: list[str] = []
        """The accounts of `burst`, which are quiet as well."""
        self._shared: list[str] = list(known)
        """Accounts of holders, to which everybody deposits."""
        self._rng = rng
        self._ids = f"{rng.getrandbits(32):08x}"
        self.stopping = False
        """Whether no new commands are to be sent."""
        self._tasks: list[asyncio.Task[None]] = []
        self._readers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start all customers."""
        crowd = self.crowd
        for number in range(crowd.holders):
            held = [self._share() for _ in range(crowd.accounts)]
            self.add(self._hold(self.random(), number, held))
        for number in range(crowd.waiters + crowd.hasty):
            timeout = LONG_TIMEOUT if number < crowd.waiters else 0.3
            self.quiet.append(self.open())
            self.add(self._deposit_now_and_then(self.random(), self.quiet[-1], timeout))
        self.bursts = [self.open() for _ in range(BURST)]
        self.quiet += self.bursts
        for account in self.bursts:
            operation = Operation("deposit", account, 0.0, self.new_id(), 1)
            self.add(self._move_once(operation, Deposit(account, 1)))
        self._readers += [self._run(self._read(self.random())) for _ in range(crowd.readers)]
        self._readers += [self._run(self._list(self.random())) for _ in range(crowd.listers)]

    def open(self) -> str:
        """Return the name of a new account, which does not exist yet."""
        account = self.next_account()
        self.accounts.append(account)
        return account

    def next_account(self) -> str:
        """Return the name that `open` gives to the next account."""
        number = len(self.accounts)
        return f"b{number % BRANCHES}-{number + (1000 if self.history.base else 0):04d}"

    def add(self, customer: Coroutine[Any, Any, None]) -> None:
        """Start one more customer, who ends when `stopping` is true."""
        self._tasks.append(self._run(customer))

    async def stop(self) -> None:
        """Send no new commands. Return once each outcome is known, and the readers have ended."""
        self.stopping = True
        self.history.measuring = False
        _, pending = await asyncio.wait(self._tasks, timeout=RESOLVE_TIMEOUT)
        for task in (*pending, *self._readers):
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, *self._readers, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def wait_for_more(self, commands: int, timeout: float = 60.0) -> None:
        """Return once at least `commands` more commands have succeeded."""
        wanted = self.history.successes + commands
        await until(lambda: self.history.successes >= wanted, timeout, f"{commands} more successful commands")

    def burst(self, pause: float, *, block: float = 0.0, process: int = 0) -> None:
        """Send deposits, each once and to a quiet account of its own, whose handlers await for `pause` seconds.

        Two of the accounts are new. With `block`, the first handler also blocks its process for so many seconds, if that is
        the one with the id `process`.
        """
        for account in (*self.bursts, self.open(), self.open()):
            message = Deposit(account, self._rng.randint(1, 60), pause=pause)
            if account == self.bursts[0]:
                message = replace(message, block=block, process=process)
            self.add(self._deposit_once(self.random(), message, LONG_TIMEOUT))

    async def move(
        self, operation: Operation, message: Command[Any], *, patient: float, gives_up: bool = False
    ) -> bool:
        """Send a command under the id of `operation` until its outcome is known; return whether it succeeded.

        Args:
            operation: The operation, which is added to the history at the first attempt.
            message: The command.
            patient: Seconds of one attempt.
            gives_up: Give up after two attempts that were certainly without effect.
        """
        history = self.history
        if not operation.start:
            operation.start = time.monotonic()
            history.commands.append(operation)
        began = time.monotonic()
        pause = 0.01
        while not await self.attempt(operation, message, patient):
            if gives_up and operation.attempts == 2 and operation.outcome == "none":
                return False
            await asyncio.sleep(pause * (0.5 + self._rng.random() / 2))
            pause = min(pause * 2, 0.25)
        history.wait(operation.kind, time.monotonic() - began)
        return operation.outcome == "done"

    async def attempt(self, operation: Operation, message: Command[Any], timeout: float) -> bool:
        """Send a command once; return whether its outcome is known for good.

        The outcome is ``none`` as long as each attempt was certainly without effect.
        """
        history = self.history
        certain = operation.outcome == "none" or not operation.attempts
        operation.attempts += 1
        floor = history.floor(operation.account)
        try:
            answer = await self.bus.command(message, id=operation.id, timeout=timeout)
        except Overdrawn as error:
            operation.end = time.monotonic()
            operation.outcome = "rejected"
            read = Operation("rejection", operation.account, operation.start, operation.id, operation.amount)
            history.read(read, read_overdrawn(str(error)), floor)
            return True
        except TooLarge:
            operation.outcome = "none" if certain else "rejected"
            return True
        except RequestError as error:
            if error.executed is False and isinstance(error, NotDelivered | Overloaded | DeadlineExceeded):
                history.refused += 1
                operation.outcome = "none" if certain else ""
            elif error.executed is None and isinstance(error, DeadlineExceeded | HandlerFailed | NotDelivered):
                history.unknown += 1
                operation.outcome = ""
            else:
                history.unexpected[f"{type(error).__name__} {error.code} executed={error.executed}: {error}"] += 1
                operation.outcome = ""
            return False
        if isinstance(answer, Transferred):
            history.done(operation, answer.here, answer.there)
        else:
            history.done(operation, answer)
        return True

    async def query(self, account: str, kind: str = "query") -> Slip:
        """Query an account until it is answered."""
        history = self.history
        began = time.monotonic()
        while True:
            operation = Operation(kind, account, time.monotonic())
            floor = history.floor(account)
            try:
                slip = await self.bus.query(GetAccount(account), timeout=self.crowd.timeout)
            except NotFound:
                slip = Slip(0, 0)
            except RequestError as error:
                if not isinstance(error, NotDelivered | Overloaded | DeadlineExceeded):
                    history.unexpected[f"query: {type(error).__name__} {error.code}: {error}"] += 1
                await asyncio.sleep(0.02)
                continue
            history.read(operation, slip, floor)
            history.wait(kind, time.monotonic() - began)
            return slip

    async def read_all(self) -> dict[str, Slip]:
        """Query each account once."""
        limit = asyncio.Semaphore(16)

        async def read(account: str) -> Slip:
            async with limit:
                return await self.query(account)

        return dict(zip(self.accounts, await asyncio.gather(*map(read, self.accounts)), strict=True))

    def new_id(self) -> str:
        """Return an id for a command, with or without a time in it."""
        if self._rng.random() < FOREIGN_SHARE:
            return f"{self._ids}-{self._rng.getrandbits(48):x}"
        return new_id()

    def _share(self) -> str:
        self._shared.append(self.open())
        return self._shared[-1]

    async def _hold(self, rng: random.Random, number: int, held: list[str]) -> None:
        """Move money of the accounts in `held`."""
        count = 0
        while not self.stopping:
            count += 1
            if count % MOVEMENTS == 0:
                held[rng.randrange(len(held))] = self._share()
            operation, message = self._choose(rng, rng.choice(held))
            gives_up = rng.random() < GIVE_UP_SHARE
            await self.move(operation, message, patient=self.crowd.timeout, gives_up=gives_up)
            if rng.random() < READ_BACK_SHARE:
                await self.query(operation.account)
            await asyncio.sleep(self.crowd.pause * rng.random() * 2)

    def _choose(self, rng: random.Random, account: str) -> tuple[Operation, Command[Any]]:
        """Return a command for an account of the sender, and its operation."""
        amount = rng.randint(1, 60)
        chance = rng.random()
        # Money is transferred to accounts of a greater number only, so that transfers cannot wait for each other.
        recent = self._shared[-20:]
        later = [one for one in recent if one.rpartition("-")[2] > account.rpartition("-")[2]]
        if chance < 0.45 or not later:
            account = account if chance < 0.35 else rng.choice(recent)
            pause = rng.uniform(0.002, 0.03) if rng.random() < PAUSE_SHARE else 0.0
            return Operation("deposit", account, 0.0, self.new_id(), amount), Deposit(account, amount, pause=pause)
        if chance < 0.6:
            return Operation("withdraw", account, 0.0, self.new_id(), amount), Withdraw(account, amount)
        to = rng.choice(later)
        if chance < 0.8 and self.crowd.transfers:
            return Operation("transfer", account, 0.0, self.new_id(), amount, to), Transfer(account, amount, to)
        return Operation("send", account, 0.0, self.new_id(), amount, to), Send(account, amount, to)

    async def _deposit_now_and_then(self, rng: random.Random, account: str, timeout: float) -> None:
        """Deposit to an account of one's own until `stop`."""
        while not self.stopping:
            pause = rng.uniform(0.002, 0.05) if rng.random() < 0.5 else 0.0
            await self._deposit_once(rng, Deposit(account, rng.randint(1, 60), pause=pause), timeout)
            await asyncio.sleep(rng.uniform(0.0, 0.2))

    async def _deposit_once(self, rng: random.Random, message: Deposit, timeout: float) -> None:
        """Send a deposit once, and ask for its outcome some seconds later if it is unknown.

        Meanwhile nobody writes to the account, so a copy of it that is stale stays stale.
        """
        operation = Operation("deposit", message.account, time.monotonic(), self.new_id(), message.amount)
        self.history.commands.append(operation)
        known = await self.attempt(operation, message, timeout)
        if not known and operation.outcome != "none":
            self.history.wait(ATTEMPT, time.monotonic() - operation.start)
            await self._sleep(rng.uniform(2.0, 6.0))
            await self.move(operation, message, patient=self.crowd.timeout)

    async def _move_once(self, operation: Operation, message: Command[Any]) -> None:
        await self.move(operation, message, patient=self.crowd.timeout)

    async def _read(self, rng: random.Random) -> None:
        """Query accounts, mostly new ones."""
        while True:
            chance = rng.random()
            chosen = (
                self.quiet if chance < 0.3 and self.quiet else self.accounts[-40:] if chance < 0.9 else self.accounts
            )
            await self.query(rng.choice(chosen))
            await asyncio.sleep(self.crowd.read_pause * rng.random() * 2)

    async def _list(self, rng: random.Random) -> None:
        """List branches: in one answer, or page by page."""
        while True:
            branch = branch_of(rng.choice(self.accounts))
            if rng.random() < PAGED_SHARE:
                await self._list_pages(branch)
            else:
                began = time.monotonic()
                start, found = await self._answer(ListBranch(branch))
                self.history.list(start, branch, found)
                self.history.wait("list", time.monotonic() - began)
            await asyncio.sleep(0.05)

    async def _list_pages(self, branch: str) -> None:
        """List a branch page by page. No account changes its place, so none may be missing, whoever answers each page."""
        began, after, found = time.monotonic(), None, dict[str, Slip]()
        while True:
            _, page = await self._answer(PageBranch(branch, after))
            found.update(page.slips)
            if (after := page.next) is None:
                break
        self.history.list(began, branch, found)

    async def _answer(self, message: Query[R]) -> tuple[float, R]:
        """Send the query of a list until it is answered. Return the time of the attempt that was, and the answer."""
        while True:
            start = time.monotonic()
            try:
                return start, await self.bus.query(message, timeout=self.crowd.timeout)
            except RequestError as error:
                if not isinstance(error, NotDelivered | Overloaded | DeadlineExceeded):
                    self.history.unexpected[f"list: {type(error).__name__} {error.code}: {error}"] += 1
                await asyncio.sleep(0.02)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not longer than until `stop`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.stopping:
            await asyncio.sleep(0.05)

    def random(self) -> random.Random:
        """Return a generator for one customer."""
        return random.Random(self._rng.random())

    def _run(self, customer: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(customer)
