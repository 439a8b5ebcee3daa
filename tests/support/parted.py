"""An actor in eight partitions, and its members: the processes that run it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from runtime import Actor, Command, Options, Query, RequestError, RetryPolicy, command, query
from runtime.client.bus import Bus
from runtime.host.host import Deployment, Host
from runtime.host.members import Members
from runtime.host.process import Runner
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import Tracing
from runtime.wire.buckets import partition_of
from runtime.wire.tokens import key_token
from tests.support.handlers import RUN_COUNTS, gate

PARTITIONS = 8


class Total(msgspec.Struct, frozen=True):
    value: int = 0


class Raise(Command[int], actor="parted", key="name"):
    """Adds one, and returns the total. Waits first if it has a gate."""

    name: str
    gate: str = ""


class GetTotal(Query[int], actor="parted", key="name"):
    name: str


class Parted(Actor[Total]):
    name = "parted"
    options = Options(partitions=PARTITIONS)

    @command
    async def add(self, message: Raise) -> int:
        if message.gate:
            RUN_COUNTS[f"raise {message.gate}"] += 1
            await gate(message.gate).wait()
        self.state = Total((self.state or Total()).value + 1)
        return self.state.value

    @query
    async def get_total(self, message: GetTotal) -> int:
        return (self.state or Total()).value


KEYS = {
    number: next(key for key in map(str, range(1000)) if partition_of(key_token(key), PARTITIONS) == number)
    for number in range(PARTITIONS)
}
"""A key of each partition."""


class Joined:
    """One member in this process, on a connection of its own."""

    def __init__(self, runner: Runner, work: "asyncio.Future[None]") -> None:
        self.runner = runner
        self.work = work

    @property
    def host(self) -> Host:
        return self.runner.hosts[0]

    @property
    def members(self) -> Members:
        assert self.host._sharing is not None
        return self.host._sharing.members

    @property
    def owned(self) -> set[int]:
        """The partitions that this member serves."""
        return {owner.partition.number for owner in self.host.owners if owner.ready}

    async def leave(self) -> None:
        """Drain, and wait for the end."""
        self.runner.stop()
        await asyncio.wait_for(asyncio.shield(self.work), 30)


@asynccontextmanager
async def joined(
    nats_server: EmbeddedServer,
    namespace: str,
    *,
    actor: type[Actor[Any]] = Parted,
    ttl: float = 4.0,
    partitions: int = PARTITIONS,
) -> AsyncIterator[Joined]:
    """Run one member for the duration of the block, which begins before it serves."""
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        options = {actor.name: Options(partitions=partitions)}
        deployment = Deployment(namespace=namespace, lease_ttl=ttl)
        runner = Runner([actor], connection, Tracing(in_memory=True), deployment, options=options)
        work = asyncio.ensure_future(runner.run())
        try:
            yield Joined(runner, work)
        finally:
            runner.stop()
            await asyncio.wait({work}, timeout=20)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


def shared(*members: Joined) -> bool:
    """Return whether the members serve all partitions together, and no two of them differ by more than one."""
    counts = [len(each.owned) for each in members]
    return sum(counts) == PARTITIONS and max(counts) - min(counts) <= 1


class Callers:
    """Callers that send a command to a key of each partition again and again, until one fails, or `stop`."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.failures: list[BaseException] = []
        self.patience: float | None = None
        """Seconds after which a command is sent again under its id; None to send it once."""
        self.done = dict.fromkeys(KEYS, 0)
        """The commands that have succeeded, for each partition."""
        self._stop = asyncio.Event()
        self._tasks = [asyncio.ensure_future(self._call(number)) for number in KEYS]

    async def round(self) -> None:
        """Wait until a command that was sent after this call has succeeded for each partition."""
        before = dict(self.done)
        async with asyncio.timeout(20):
            while not self.failures and not all(self.done[number] > before[number] + 1 for number in KEYS):
                await asyncio.sleep(0.002)

    async def stop(self) -> None:
        """Stop, and check that each command had its effect once."""
        self._stop.set()
        await asyncio.gather(*self._tasks)
        assert self.failures == []
        totals = {number: await self.bus.query(GetTotal(key)) for number, key in KEYS.items()}
        assert totals == self.done

    def cancel(self) -> None:
        """End the callers at once."""
        for task in self._tasks:
            task.cancel()

    async def _call(self, number: int) -> None:
        while not self._stop.is_set():
            try:
                await self.send(number)
            except RequestError as error:
                self.failures.append(error)
                return
            await asyncio.sleep(0.002)  # A load that leaves some time to the members.

    async def send(self, number: int) -> None:
        """Send one command to the key of a partition, under one id until its outcome is known."""
        message = Raise(KEYS[number])
        if self.patience is None:
            await self.bus.command(message, timeout=15)
        else:
            policy = RetryPolicy(attempts=100, first=0.05, longest=0.1)
            await self.bus.retry(message, policy=policy, timeout=self.patience)
        self.done[number] += 1
