"""Accounts in partitions, with handlers that take a given time of CPU: the answering side of the question `scale`."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import repeat
from typing import Any

from msgspec.structs import replace

from bench import load
from bench.sides.actorloom.actors import Deposited, GetAccount, MakeDeposit
from bench.sides.actorloom.call import Caller
from bench.sides.actorloom.owning import OwningSide
from bench.work import Account, deposit
from runtime import Actor, Index, Options, Query, RequestError, command, query
from runtime.client.bus import Bus
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.telemetry import Tracing
from runtime.testing import System, running
from runtime.wire.ids import new_id

_PAUSE = 0.02
"""Seconds between two attempts at a deposit."""
_BETWEEN = 0.04
"""Seconds between two deposits in one account, so that the load leaves half of the CPU to the processes that start and end."""


class GetRichest(Query[list[Account]], actor="accounts"):
    """Returns the accounts with the most deposits."""

    limit: int


class ScaledAccounts(Actor[Account], indexes=[Index(order="balance")]):
    """Accounts whose handlers take `work` seconds of CPU."""

    name = "accounts"
    options = Options(resident=2_000_000, idle=3600.0)
    work = 0.0

    @command
    async def make_deposit(self, message: MakeDeposit) -> Account:
        """Change the account and emit one event, in a durable turn."""
        _spend(self.work)
        self.state = state = deposit(self.state, message)  # type: ignore[arg-type]
        self.emit(Deposited(message.account, message.amount, state.balance))
        return state

    @query
    async def get_account(self, message: GetAccount) -> Account:
        """Return the account, or an empty one."""
        _spend(self.work)
        return self.state or Account(message.account, 0, 0)

    @query
    async def get_richest(self, message: GetRichest) -> list[Account]:
        """Return one page of the list."""
        return (await self.list(order="-balance", limit=message.limit)).items


def _spend(seconds: float) -> None:
    """Use the CPU for this time."""
    if seconds:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass


class ScaledSide(OwningSide):
    """One of the processes that share the partitions of the accounts."""

    def __init__(self, system: System, begun: float, cpu: float) -> None:
        super().__init__(system)
        self._start_up = time.perf_counter() - begun, (time.process_time() - cpu) * 1000

    async def start_up(self) -> tuple[float, float]:
        """Return the seconds from the connection of this process until it served its share, and its milliseconds of CPU."""
        return self._start_up


class ScaledCaller(Caller):
    """A caller that watches moves of partitions, and reads lists."""

    def __init__(self, bus: Bus, tracing: Tracing) -> None:
        super().__init__(bus, tracing)
        self._watch: asyncio.Task[dict[str, Any]] | None = None
        self._enough = asyncio.Event()

    async def begin_deposits(self, keys: int, patience: float) -> None:
        """Make deposits in the first `keys` accounts, one at a time in each, until `end_deposits`.

        A deposit that fails, or has no reply within `patience` seconds, is sent again under its id until there is one.
        """
        self._enough.clear()
        names = [f"account-{number}" for number in range(keys)]
        before = await self._deposits_of(names)
        self._watch = asyncio.ensure_future(self._deposit_in_all(names, before, patience))

    async def end_deposits(self) -> dict[str, Any]:
        """Make no more deposits. Return the longest wait of each account in milliseconds, and what came of the deposits.

        `failed` counts the attempts without a reply; `lost` and `twice` count the deposits that the accounts do not have, or
        have more than once, after all have got their reply.
        """
        assert self._watch is not None
        self._enough.set()
        return await self._watch

    async def _deposit_in_all(self, names: list[str], before: list[int], patience: float) -> dict[str, Any]:
        delays = [_BETWEEN * number / len(names) for number in range(len(names))]
        found = await asyncio.gather(*map(self._deposit_in, names, delays, repeat(patience)))
        after = await self._deposits_of(names)
        missing = [old + sent - new for old, new, (_, sent, _) in zip(before, after, found, strict=True)]
        return {
            "longest": {name: longest * 1000 for name, (longest, _, _) in zip(names, found, strict=True)},
            "commands": sum(sent for _, sent, _ in found),
            "failed": sum(failed for _, _, failed in found),
            "lost": sum(max(each, 0) for each in missing),
            "twice": sum(max(-each, 0) for each in missing),
        }

    async def _deposit_in(self, account: str, delay: float, patience: float) -> tuple[float, int, int]:
        """Make deposits in one account until there are enough. Return the longest wait, their number, and the failures."""
        longest, sent, failed = 0.0, 0, 0
        await asyncio.sleep(delay)
        while not self._enough.is_set():
            message, message_id, begun = MakeDeposit(account, 5), new_id(), time.perf_counter()
            while True:
                try:
                    await self.bus.command(message, id=message_id, timeout=patience)
                    break
                except RequestError:
                    failed += 1
                    await asyncio.sleep(_PAUSE)
            longest, sent = max(longest, time.perf_counter() - begun), sent + 1
            await asyncio.sleep(_BETWEEN)
        return longest, sent, failed

    async def _deposits_of(self, accounts: list[str]) -> list[int]:
        found = await asyncio.gather(*(self.bus.query(GetAccount(account)) for account in accounts))
        return [account.deposits for account in found]

    async def lists(self, in_flight: int, seconds: float, limit: int) -> dict[str, Any]:
        """Read the first page of the list in a closed loop."""
        query = self.bus.query
        return await load.closed_loop(lambda _: query(GetRichest(limit)), in_flight, seconds)


@asynccontextmanager
async def accounts(
    url: str, namespace: str, partitions: int, work: float = 0.0, lease_ttl: float = 4.0, replicas: int = 1
) -> AsyncIterator[ScaledSide]:
    """Serve accounts in partitions, as one of the processes that share them."""
    ScaledAccounts.work = work
    options = {"accounts": replace(ScaledAccounts.options, partitions=partitions)}
    begun, cpu = time.perf_counter(), time.process_time()
    async with running(
        ScaledAccounts,
        url=url,
        namespace=namespace,
        options=options,
        tracing=Tracing.from_env(),
        lease_ttl=lease_ttl,
        replicas=replicas,
    ) as system:
        yield ScaledSide(system, begun, cpu)


@asynccontextmanager
async def caller(url: str, namespace: str) -> AsyncIterator[ScaledCaller]:
    """Provide the caller."""
    tracing = Tracing.from_env()
    async with await Connection.connect(ConnectionOptions(url=url), name="bench") as connection:
        yield ScaledCaller(Bus(connection, tracing.service("bench"), namespace=namespace), tracing)
