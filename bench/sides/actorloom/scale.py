"""Accounts in partitions, with handlers that take a given time of CPU: the answering side of the question `scale`."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace

from bench import load
from bench.sides.actorloom.actors import Deposited, GetAccount, MakeDeposit
from bench.sides.actorloom.call import Caller
from bench.sides.actorloom.serve import ActorSide
from bench.work import Account, deposit
from runtime import Actor, Index, Options, Query, RequestError, command, query
from runtime.client.bus import Bus
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.telemetry import Tracing
from runtime.testing import System, running
from runtime.wire.ids import new_id

_PAUSE = 0.02
"""Seconds between two attempts at a deposit."""


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


class ScaledSide(ActorSide):
    """One of the processes that share the partitions."""

    def __init__(self, system: System, begun: float) -> None:
        super().__init__(system)
        self._host = system.runner.hosts[0]
        self._seconds = time.perf_counter() - begun

    async def own_all(self, number: int) -> None:
        """Return when this process owns so many partitions."""
        while sum(owner.ready.is_set() for owner in self._host.owners) < number:
            await asyncio.sleep(0.002)

    async def seconds_to_own(self) -> float:
        """Return the seconds from the connection of this process until it served its share of the partitions."""
        return self._seconds


class ScaledCaller(Caller):
    """A caller that reads lists too."""

    async def patient_deposits(self, in_flight: int, seconds: float, keys: int) -> dict[str, Any]:
        """Make deposits in a closed loop, each sent again under its id until its outcome is known."""

        async def deposit(number: int) -> None:
            message, message_id = MakeDeposit(f"account-{number % keys}", 5), new_id()
            while True:
                try:
                    return await self.bus.command(message, id=message_id, timeout=1.0)
                except RequestError:
                    await asyncio.sleep(_PAUSE)

        return await load.closed_loop(deposit, in_flight, seconds)

    async def lists(self, in_flight: int, seconds: float, limit: int) -> dict[str, Any]:
        """Read the first page of the list in a closed loop."""
        query = self.bus.query
        return await load.closed_loop(lambda _: query(GetRichest(limit)), in_flight, seconds)


@asynccontextmanager
async def accounts(
    url: str, namespace: str, partitions: int, work: float = 0.0, lease_ttl: float = 4.0
) -> AsyncIterator[ScaledSide]:
    """Serve accounts in partitions, as one of the processes that share them."""
    ScaledAccounts.work = work
    options = {"accounts": replace(ScaledAccounts.options, partitions=partitions)}
    begun = time.perf_counter()
    async with running(
        ScaledAccounts, url=url, namespace=namespace, options=options, tracing=Tracing.from_env(), lease_ttl=lease_ttl
    ) as system:
        yield ScaledSide(system, begun)


@asynccontextmanager
async def caller(url: str, namespace: str) -> AsyncIterator[ScaledCaller]:
    """Provide the caller."""
    tracing = Tracing.from_env()
    async with await Connection.connect(ConnectionOptions(url=url), name="bench") as connection:
        yield ScaledCaller(Bus(connection, tracing.service("bench"), namespace=namespace), tracing)
