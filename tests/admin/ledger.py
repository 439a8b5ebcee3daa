"""A ledger whose keys are stored in different numbers of partitions, with a record of all that it should contain."""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec

from runtime import Actor, Command, Event, Options, Query, command, query, react
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names
from tests.support.probe import Probe, running

FAILING: set[str] = set()
"""The accounts whose events the tally cannot handle now."""


class Account(msgspec.Struct, frozen=True):
    total: int = 0
    rang: list[str] = []


class Add(Command[int], actor="ledger", key="name"):
    name: str
    amount: int


class SetTimer(Command[None], actor="ledger", key="name"):
    name: str
    after: float
    called: str
    every: str = ""


class CancelTimer(Command[None], actor="ledger", key="name"):
    name: str
    called: str


class Ring(Command[None], actor="ledger", key="name"):
    name: str
    called: str


class Added(Event, actor="ledger", key="name"):
    name: str
    amount: int


class GetAccount(Query[Account], actor="ledger", key="name"):
    name: str


class GetTally(Query[int], actor="tally", key="name"):
    name: str


class Ledger(Actor[Account]):
    """Adds, and emits what was added."""

    name = "ledger"

    @query
    async def get_account(self, message: GetAccount) -> Account:
        return self.state or Account()

    @command
    async def add(self, message: Add) -> int:
        account = self.state or Account()
        self.state = msgspec.structs.replace(account, total=account.total + message.amount)
        self.emit(Added(message.name, message.amount))
        return self.state.total

    @command
    async def set_timer(self, message: SetTimer) -> None:
        self.state = self.state or Account()
        ring = Ring(message.name, message.called)
        if message.every:
            self.schedule(message.every, ring, name=message.called)
        else:
            self.remind(message.after, ring, name=message.called)

    @command
    async def cancel_timer(self, message: CancelTimer) -> None:
        self.cancel(message.called)

    @command
    async def ring(self, message: Ring) -> None:
        account = self.state or Account()
        self.state = msgspec.structs.replace(account, rang=[*account.rang, message.called])


class Sum(msgspec.Struct, frozen=True):
    total: int = 0


class Tally(Actor[Sum]):
    """Sums what the ledger has added."""

    name = "tally"

    @query
    async def get_tally(self, message: GetTally) -> int:
        return (self.state or Sum()).total

    @react
    async def on_added(self, event: Added) -> None:
        if event.name in FAILING:
            raise RuntimeError("it cannot be handled now")
        self.state = Sum((self.state or Sum()).total + event.amount)


class Book:
    """The ledger and the tally in one namespace of a server, and all that their callers were told.

    Args:
        url: The URL of the server.
        namespace: The namespace.
        accounts: The number of accounts.
    """

    def __init__(self, url: str, namespace: str, accounts: int = 16) -> None:
        self.url = url
        self.namespace = namespace
        self.keys = [f"{namespace} {n}" for n in range(accounts)]
        self.totals: Counter[str] = Counter()
        self.sent: list[tuple[str, Add, int]] = []
        """The id of each command, the command, and its reply."""
        self.names = Names("ledger", namespace)

    @asynccontextmanager
    async def running(self, ledger: int = 1, tally: int = 1) -> AsyncGenerator[Probe]:
        """Run both actors with their numbers of partitions. Few ids stay in the records, so that dedup entries are stored."""
        options = {
            name: Options(partitions=partitions, handled=1)
            for name, partitions in (("ledger", ledger), ("tally", tally))
        }
        async with running(Ledger, Tally, url=self.url, namespace=self.namespace, options=options) as system:
            yield system

    @asynccontextmanager
    async def jetstream(self) -> AsyncGenerator[JetStream]:
        """Connect to the server, without actors."""
        connection = await Connection.connect(ConnectionOptions(url=self.url), name="test")
        try:
            yield JetStream(connection)
        finally:
            await connection.close()

    async def add(self, system: Probe, rounds: int = 1) -> None:
        """Add one to each account, `rounds` times."""
        for _ in range(rounds):
            for name in self.keys:
                message, message_id = Add(name, 1), new_id()
                reply = await system.bus.command(message, id=message_id)
                self.totals[name] += 1
                assert reply == self.totals[name]
                self.sent.append((message_id, message, reply))

    async def check(self, system: Probe) -> None:
        """Check that each command has had its effect once, and gets the reply that it had, and that each event was handled once."""
        await self.check_totals(system)  # first: the commands would bring back what is lost
        for message_id, message, reply in self.sent:
            assert await system.bus.command(message, id=message_id) == reply
        await self.check_totals(system)
        await self.check_tally(system)

    async def check_totals(self, system: Probe) -> None:
        """Check that each account has the sum of its commands."""
        for name in self.keys:
            assert (await system.bus.query(GetAccount(name))).total == self.totals[name]

    async def check_tally(self, system: Probe, but: str = "") -> None:
        """Check that each event was handled once, except those of the account `but`."""
        for name in self.keys:

            async def is_handled(name: str = name) -> bool:
                return await system.bus.query(GetTally(name)) >= self.totals[name]

            if name != but:
                await system.until(is_handled)
                assert await system.bus.query(GetTally(name)) == self.totals[name]
