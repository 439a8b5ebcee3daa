"""A cell: one namespace with its actor processes, its callers and its account, on servers that cells may share."""

import random
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime import Bus
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.telemetry import Tracing
from tests.chaos.audit import Verdict, audit
from tests.chaos.fleet import Fleet, Program, Worker
from tests.chaos.load import Load
from tests.chaos.servers import Servers


@dataclass
class Result:
    """What one scenario found; `good` is the whole verdict."""

    name: str
    seed: int
    load: str = ""
    faults: str = ""
    lost: int = 0
    twice: int = 0
    stall: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not self.problems

    def require(self, holds: bool, otherwise: str) -> None:
        """Note a problem unless `holds`."""
        if not holds:
            self.problems.append(otherwise)


@dataclass
class Setting:
    """What a scenario is given: its seed, its directory for data and logs, and how much it is to do."""

    seed: int
    directory: Path
    short: bool = False
    minutes: float = 0.0
    nodes: int = 1
    """Of nats-server, with as many replicas; a scenario for a cluster alone sets it itself."""
    say: Callable[[str], None] = lambda text: None

    def rng(self, salt: str) -> random.Random:
        return random.Random(f"{self.seed}/{salt}")

    def much(self, long: int, short: int) -> int:
        return short if self.short else long


Scenario = Callable[[Setting], Coroutine[Any, Any, Result]]


class Cell:
    """See the module; made by `cell`."""

    def __init__(
        self, servers: Servers, namespace: str, connection: Connection, bus: Bus, fleet: Fleet, load: Load
    ) -> None:
        self.servers = servers
        self.namespace = namespace
        self.connection = connection
        self.bus = bus
        self.fleet = fleet
        self.load = load

    def start(
        self,
        *actors: str,
        kills: Iterable[str] = (),
        without: Iterable[str] = (),
        lease_ttl: float = 1.0,
        keep: bool = True,
        url: str = "",
        ping: float = 1.0,
        tick: float = 5.0,
    ) -> Worker:
        """Start one process that runs `actors`, and again each time it dies."""
        arguments = [
            "-m",
            "tests.chaos.process",
            *actors,
            "--nats",
            url or self.servers.url,
            "--namespace",
            self.namespace,
        ]
        arguments += ["--lease-ttl", str(lease_ttl), "--replicas", str(self.servers.replicas)]
        arguments += ["--ping", str(ping), "--tick", str(tick)]
        for switch in without:
            arguments += ["--without", switch]
        name = f"{self.namespace}-{'-'.join(actor.rpartition(':')[2] for actor in actors)}"
        return self.fleet.start(Program(name, arguments, list(kills), keep))

    async def verdict(self, **how: Any) -> Verdict:
        """End the load, wait for what is under way, and compare; see `audit`."""
        await self.load.stop()
        return await audit(self.connection, self.bus, self.namespace, self.load.account, **how)

    def report(self, result: Result, verdict: Verdict) -> None:
        """Add this cell's account to the result: anything lost, doubled or out of order is a problem."""
        account = self.load.account
        result.lost += verdict.lost
        result.twice += verdict.twice
        result.stall = max(result.stall, account.stall)
        result.figures["commands"] = result.figures.get("commands", 0) + account.commands
        result.figures["attempts of unknown outcome"] = (
            result.figures.get("attempts of unknown outcome", 0) + account.unknown
        )
        result.figures["refused"] = result.figures.get("refused", 0) + account.refused
        result.figures["slowest command, s"] = round(
            max(result.figures.get("slowest command, s", 0.0), account.slowest), 2
        )
        if account.failed:
            result.problems.append(f"{len(account.failed)} times retry() failed, first: {account.failed[0]}")
        if not verdict.good:
            result.problems.append(
                f"{self.namespace}: lost {verdict.lost}, twice {verdict.twice}, out of order {verdict.disorder}"
            )
            result.problems += [f"  {line}" for line in verdict.wrong]
        self.complain(result)

    def complain(self, result: Result) -> None:
        """Whatever looks like a stack trace in a log of this cell is a problem."""
        result.problems += [f"a stack trace in the log: {line}" for line in self.fleet.complaints()[:5]]


@asynccontextmanager
async def cell(setting: Setting, servers: Servers, namespace: str, **load: Any):
    """Make a cell; its processes and its connection end with the block."""
    connection = await Connection.connect(ConnectionOptions(url=servers.url, ping_interval=1.0), name="chaos")
    tracing = Tracing()
    bus = Bus(connection, tracing.service("chaos"), namespace=namespace)
    fleet = Fleet(setting.directory)
    try:
        async with fleet:
            yield Cell(servers, namespace, connection, bus, fleet, Load(bus, setting.rng(namespace), **load))
    finally:
        await connection.close()
        tracing.shutdown()


@asynccontextmanager
async def measured(result: Result):
    """Note how long the block took."""
    begun = time.monotonic()
    try:
        yield
    finally:
        result.seconds += time.monotonic() - begun
