"""Actorloom: actors served by a runner, and callers on a bus, as a user writes them."""

import asyncio
import cProfile
import pstats
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from bench import load
from bench.process import ROOT
from bench.work import ORDER, Account, Line, Quote, deposit, quote
from runtime import Actor, Command, Event, Options, Query, command, query, react
from runtime.client.bus import Bus
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import StreamConfig
from runtime.telemetry import Tracing
from runtime.testing import System, running


class GetQuote(Query[Quote], actor="pricing"):
    """`work.QuoteRequest`, as a query."""

    order_id: str
    customer: str
    street: str
    city: str
    lines: tuple[Line, ...]


class MakeQuote(Command[Quote], actor="pricing"):
    """The same as a command, which has a turn."""

    order_id: str
    customer: str
    street: str
    city: str
    lines: tuple[Line, ...]


class MakeDeposit(Command[Account], actor="accounts", key="account"):
    """`work.Deposit`, as a command."""

    account: str
    amount: int


class GetAccount(Query[Account], actor="accounts", key="account"):
    """Read one account."""

    account: str


class Deposited(Event, actor="accounts", key="account"):
    """`work.Deposited`, as an event."""

    account: str
    amount: int
    balance: int


class Pricing(Actor):
    """Answers quotes; without state."""

    name = "pricing"

    @query
    async def get_quote(self, message: GetQuote) -> Quote:
        """Price an order."""
        return quote(message)  # type: ignore[arg-type] - it has the same fields

    @command
    async def make_quote(self, message: MakeQuote) -> Quote:
        """Price an order, in a turn that leaves nothing to store: the command has no id."""
        return quote(message)  # type: ignore[arg-type] - it has the same fields


class Accounts(Actor[Account]):
    """Keeps accounts, each a key."""

    name = "accounts"
    options = Options(resident=2_000_000, idle=3600.0)

    @command
    async def make_deposit(self, message: MakeDeposit) -> Account:
        """One durable turn with one event."""
        self.state = state = deposit(self.state, message)  # type: ignore[arg-type]
        self.emit(Deposited(message.account, message.amount, state.balance))
        return state

    @query
    async def get_account(self, message: GetAccount) -> Account:
        """Read the account."""
        return self.state or Account(message.account, 0, 0)


class Spans:
    """The spans of this process: to be sent before a round is over, and counted."""

    def __init__(self, tracing: Tracing) -> None:
        self.tracing = tracing
        self._seen = (0, 0)

    async def flush(self) -> dict[str, float]:
        """Export all that has ended; return how many spans were exported and how many dropped since the last call."""
        await asyncio.to_thread(self.tracing.flush, 20.0)
        exporter = self.tracing.exporter
        if exporter is None:
            return {}
        exported, dropped = exporter.exported, exporter.lost + self.tracing.recorder.dropped
        before, self._seen = self._seen, (exported, dropped)
        return {"exported": exported - before[0], "dropped": dropped - before[1]}


class Served(Spans):
    """Actors that serve."""

    def __init__(self, system: System) -> None:
        super().__init__(system.tracing)
        self.system = system
        self._profile = cProfile.Profile(builtins=False)

    async def profile_from_here(self) -> None:
        """Let Python's profiler count what follows; what is called in C counts for its caller."""
        self._profile.enable()

    async def profiled(self) -> list[tuple[str, int, float]]:
        """End that; return each function that ran with its calls and its own seconds, beside the wait for the socket."""
        self._profile.disable()
        found: Any = pstats.Stats(self._profile)
        return [
            (f"{_short(file)} {name}", calls, seconds)
            for (file, _, name), (_, calls, seconds, _, _) in found.stats.items()
            if not file.endswith("selectors.py")
        ]

    async def evict(self, name: str, idle: float) -> int:
        """Let idle keys leave memory; return how many stay."""
        turns = self._serving(name).turns
        turns.keys.evict(idle, 10_000_000)
        return len(turns.keys)

    async def keys(self, name: str) -> int:
        """Return how many keys are in memory."""
        return len(self._serving(name).turns.keys)

    def _serving(self, name: str) -> Any:
        host = self.system.host(name)
        return host.serving


@asynccontextmanager
async def actor(url: str, namespace: str, name: str) -> AsyncIterator[Served]:
    """Serve `Pricing` or `Accounts`; traced as the environment says."""
    kind: type[Actor[Any]] = {"pricing": Pricing, "accounts": Accounts}[name]
    async with running(kind, url=url, namespace=namespace, tracing=Tracing.from_env()) as system:
        yield Served(system)


def _short(file: str) -> str:
    """Return a module's path within the repository, or where it is not of it, within its package."""
    path = Path(file)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT / "runtime") else "/".join(path.parts[-2:])


class Caller(Spans):
    """A plain program with a bus."""

    def __init__(self, bus: Bus, tracing: Tracing) -> None:
        super().__init__(tracing)
        self.bus = bus

    async def quotes(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Ask for quotes in a closed loop."""
        ask, message = self.bus.query, GetQuote(**ORDER)
        return await load.closed(lambda _: ask(message), in_flight, seconds)

    async def deposits(self, in_flight: int, seconds: float, keys: int) -> dict[str, Any]:
        """Make deposits in a closed loop, each worker on the account of its number modulo `keys`."""
        tell = self.bus.command
        return await load.closed(lambda n: tell(MakeDeposit(f"account-{n % keys}", 5)), in_flight, seconds)

    async def fill(self, first: int, count: int) -> dict[str, float]:
        """Make one deposit on each of `count` new accounts."""
        numbers = iter(range(first, first + count))
        begun = time.perf_counter()

        async def worker() -> None:
            for number in numbers:
                await self.bus.command(MakeDeposit(f"account-{number}", 5))

        await asyncio.gather(*(worker() for _ in range(min(128, count))))
        return {"seconds": time.perf_counter() - begun}

    async def reads(self, in_flight: int, seconds: float, keys: int) -> dict[str, Any]:
        """Read accounts in a closed loop, spread over `keys`."""
        ask, counter = self.bus.query, 0

        def one(_: int) -> Any:
            nonlocal counter
            counter += 7919
            return ask(GetAccount(f"account-{counter % keys}"))

        return await load.closed(one, in_flight, seconds)


@asynccontextmanager
async def caller(url: str, namespace: str) -> AsyncIterator[Caller]:
    """The client side; traced as the environment says."""
    tracing = Tracing.from_env()
    async with await Connection.connect(ConnectionOptions(url=url), name="bench") as connection:
        yield Caller(Bus(connection, tracing.service("bench"), namespace=namespace), tracing)
        await asyncio.to_thread(tracing.shutdown)


class Publisher:
    """Publishes to JetStream, each acknowledged."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.jetstream = JetStream(connection)
        self.bus = Bus(connection, Tracing.from_env().service("bench"), namespace=namespace)
        self.namespace = namespace

    async def prepare(self) -> None:
        """Create a stream for bare messages, with the actor's window of deduplication."""
        await self.jetstream.ensure_stream(
            StreamConfig(
                name=f"{self.namespace}-bare", subjects=(f"{self.namespace}.bare.>",), duplicate_window=120 * 10**9
            )
        )

    async def events(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Emit in a closed loop, with all headers of an event."""
        emit = self.bus.emit
        return await load.closed(lambda n: emit(Deposited(f"account-{n}", 5, 100)), in_flight, seconds)

    async def bare(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Publish in a closed loop by the JetStream floor alone, without headers."""
        publish, encode = self.jetstream.publish, msgspec.json.encode
        event = Deposited("account-1", 5, 100)
        return await load.closed(lambda n: publish(f"{self.namespace}.bare.{n}", encode(event)), in_flight, seconds)

    async def store(self, count: int) -> None:
        """Store `count` events of 100 accounts."""
        numbers = iter(range(count))

        async def worker() -> None:
            for number in numbers:
                await self.bus.emit(Deposited(f"account-{number % 100}", 5, number))

        await asyncio.gather(*(worker() for _ in range(256)))


@asynccontextmanager
async def publisher(url: str, namespace: str) -> AsyncIterator[Publisher]:
    """Acknowledged publishes, without anybody on the other side."""
    async with running(Accounts, url=url, namespace=namespace, tracing=Tracing.from_env()):
        pass  # the actor creates its streams
    async with await Connection.connect(ConnectionOptions(url=url), name="bench") as connection:
        publishing = Publisher(connection, namespace)
        await publishing.prepare()
        yield publishing


class Reactor:
    """Runs an actor without state that reacts to stored events."""

    def __init__(self, url: str, namespace: str) -> None:
        self.url = url
        self.namespace = namespace
        self.rounds = 0

    async def consume(self, count: int) -> dict[str, Any]:
        """Handle `count` stored events, from the first one handled to the last acknowledgement sent."""
        self.rounds += 1
        seen = _Seen(count)

        class Watcher(Actor):
            name = f"watcher-{self.rounds}"

            @react
            async def on_deposited(self, event: Deposited) -> None:
                seen.add(event.amount)

        async with running(Watcher, url=self.url, namespace=self.namespace, tracing=Tracing.from_env()) as system:
            async with asyncio.timeout(60):
                await seen.all.wait()
            await system.connection.flush()
            seconds = (time.perf_counter_ns() - seen.begun) / 1e9
            return {"count": seen.count, "seconds": seconds, "cpu_us": (time.process_time_ns() - seen.cpu) / 1e3}


class _Seen:
    """Counts what the reaction handled."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.count = self.total = self.begun = self.cpu = 0
        self.all = asyncio.Event()

    def add(self, amount: int) -> None:
        """One more."""
        if not self.begun:
            self.begun, self.cpu = time.perf_counter_ns(), time.process_time_ns()
        self.total += amount
        self.count += 1
        if self.count == self.expected:
            self.all.set()


@asynccontextmanager
async def reactor(url: str, namespace: str) -> AsyncIterator[Reactor]:
    """Reactions."""
    yield Reactor(url, namespace)
