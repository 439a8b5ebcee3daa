"""Ledgers in partitions, whose turns are caused by events: the answering side of the cost of handing on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.sides.actorloom.owning import OwningSide
from bench.work import Account, Deposit, deposit
from runtime import Actor, Event, Options, react
from runtime.client.bus import Bus
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.telemetry import Tracing
from runtime.testing import System, running
from runtime.wire.buckets import partition_of

_SOURCE = "payments"
_ACCOUNTS = 64


class Paid(Event, actor=_SOURCE, key="payer"):
    """A payment from one account to another, which is in another partition."""

    payer: str
    payee: str
    amount: int


class PayerLedger(Actor[Account]):
    """Counts the payments of each payer: the key of a turn is that of its event."""

    name = "payer-ledger"
    handled = 0

    @react
    async def on_paid(self, event: Paid) -> None:
        """Change the account of the payer."""
        self.state = deposit(self.state, Deposit(event.payer, event.amount))
        PayerLedger.handled += 1


class PayeeLedger(Actor[Account]):
    """Counts the payments to each payee: its events are handed on."""

    name = "payee-ledger"
    handled = 0

    @react(key="payee")
    async def on_paid(self, event: Paid) -> None:
        """Change the account of the payee."""
        self.state = deposit(self.state, Deposit(event.payee, event.amount))
        PayeeLedger.handled += 1


class LedgerSide(OwningSide):
    """One of the processes that share a ledger."""

    def __init__(self, system: System, ledger: type[PayerLedger | PayeeLedger]) -> None:
        super().__init__(system)
        self._ledger = ledger

    async def handled(self) -> int:
        """Return how many events this process has handled."""
        return self._ledger.handled


class Payer:
    """Emits payments, and waits for nothing but their acknowledgement."""

    def __init__(self, bus: Bus, partitions: int) -> None:
        self.bus = bus
        accounts = [f"account-{number}" for number in range(_ACCOUNTS)]
        self._pairs = [(payer, _payee(payer, accounts, partitions)) for payer in accounts]

    async def pay(self, count: int) -> None:
        """Emit `count` payments, spread over all payers."""
        numbers = iter(range(count))

        async def worker() -> None:
            for number in numbers:
                payer, payee = self._pairs[number % _ACCOUNTS]
                await self.bus.emit(Paid(payer, payee, 5))

        await asyncio.gather(*(worker() for _ in range(_ACCOUNTS)))


def _payee(payer: str, accounts: list[str], partitions: int) -> str:
    """Return an account of another partition than that of the payer, if there is one: the next one after the payer."""
    at = accounts.index(payer) + 1
    rest = accounts[at:] + accounts[:at]
    return next((each for each in rest if partition_of(each, partitions) != partition_of(payer, partitions)), payer)


@asynccontextmanager
async def ledger(url: str, namespace: str, partitions: int, other: bool) -> AsyncIterator[LedgerSide]:
    """Serve a ledger in partitions, as one of the processes that share them. `other` makes it that of the payees."""
    kind = PayeeLedger if other else PayerLedger
    options = {kind.name: Options(partitions=partitions)}
    async with running(
        kind, url=url, namespace=namespace, options=options, tracing=Tracing.from_env(), sources=[_SOURCE]
    ) as system:
        yield LedgerSide(system, kind)


@asynccontextmanager
async def payer(url: str, namespace: str, partitions: int) -> AsyncIterator[Payer]:
    """Provide the side that emits."""
    async with await Connection.connect(ConnectionOptions(url=url), name="bench") as connection:
        yield Payer(Bus(connection, Tracing.from_env().service("bench"), namespace=namespace), partitions)
