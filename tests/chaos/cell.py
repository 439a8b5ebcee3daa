"""A cell: one namespace with its actor processes, callers and outcomes, on servers that several cells may share."""

import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
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
    """The result of one scenario. `lost` and `twice` count effects, `stall` is in seconds; it passed if `good`."""

    name: str
    seed: int
    load: str = ""
    faults: str = ""
    lost: int = 0
    twice: int = 0
    stall: float = 0.0
    reads: int = 0
    """Answers of queries, lists and rejections that were checked."""
    stale: int = 0
    """Those of them that are older than an answer which had arrived before they were requested."""
    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    """What took too long. The short version does not judge it: tests run on machines that may stand still."""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not self.problems

    def require(self, condition: bool, problem: str) -> None:
        """Add `problem` unless `condition` holds."""
        if not condition:
            self.problems.append(problem)

    def require_pace(self, condition: bool, problem: str) -> None:
        """Add `problem`, about a duration, unless `condition` holds."""
        if not condition:
            self.slow.append(problem)


@dataclass
class Setting:
    """The parameters of a scenario: its seed, its directory for data and logs, and its size."""

    seed: int
    directory: Path
    short: bool = False
    seconds: float = 0.0
    """Duration of the soak."""
    nodes: int = 1
    """Number of nats-servers and of replicas. Scenarios that need a cluster ignore it."""
    progress: Callable[[str], None] = lambda text: None
    """Prints a line while the scenario runs."""

    def rng(self, salt: str) -> random.Random:
        """Return a generator that depends on the seed and on `salt`."""
        return random.Random(f"{self.seed}/{salt}")

    def size(self, full: int, short: int) -> int:
        """Return the number for the full or the short version of the scenario."""
        return short if self.short else full


Scenario = Callable[[Setting], Coroutine[Any, Any, Result]]


class Cell:
    """One cell; see the module's docstring. `open_cell` creates it."""

    def __init__(
        self, servers: Servers, namespace: str, connection: Connection, bus: Bus, fleet: Fleet, load: Load
    ) -> None:
        self.servers = servers
        self.namespace = namespace
        self.connection = connection
        self.bus = bus
        self.fleet = fleet
        self.load = load
        self.partitions = 1
        """Partitions of the keys of each actor."""

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
        suspendable: bool = False,
        inside: Iterable[str] = (),
        skew: float = 0.0,
        drain: float = 20.0,
        partitions: int = 0,
        older: bool = False,
    ) -> Worker:
        """Start a process, and start it again each time it ends.

        Args:
            actors: Names of actors in `tests.chaos.actors`, or ``module:Class``.
            kills: Fault points at which successive lives of the process kill themselves, as ``point:times``.
            without: Safeguards that are switched off, from `tests.chaos.safeguards`.
            lease_ttl: Seconds of the lease.
            keep: Start the process again when it ends.
            url: URL of the servers; by default those of the cell.
            ping: Seconds between pings to the server.
            tick: Seconds between the periodic checks of the relay.
            suspendable: Let the monotonic clock of the process stand still while it is stopped (`fleet.suspended`).
            inside: The beginning of the command line, for a process in a network namespace.
            skew: Seconds by which the clock of the process is ahead.
            drain: Seconds that a drain may take.
            partitions: Partitions of the keys; by default those of the cell.
            older: Let the process be one of the version before partitions, by the streams that it wants.
        """
        arguments = [
            "-m",
            *(("tests.support.wall_clock", str(skew)) if skew else ()),
            "tests.chaos.process",
            *actors,
            "--nats",
            url or self.servers.url,
            "--namespace",
            self.namespace,
        ]
        arguments += ["--lease-ttl", str(lease_ttl), "--replicas", str(self.servers.replicas)]
        arguments += ["--ping", str(ping), "--tick", str(tick), "--drain", str(drain)]
        arguments += ["--partitions", str(partitions or self.partitions)]
        if suspendable:
            arguments.append("--suspendable")
        if older:
            arguments.append("--older")
        for safeguard in without:
            arguments += ["--without", safeguard]
        name = f"{self.namespace}-{'-'.join(actor.rpartition(':')[2] for actor in actors)}"
        return self.fleet.start(Program(name, arguments, list(kills), keep, tuple(inside)))

    def start_workers(self, *actors: str, workers: int, lease_ttl: float = 1.0) -> Worker:
        """Start `actorloom run` with so many worker processes, and start it again each time it ends; see `start`."""
        name = f"{self.namespace}-workers"
        names = [actor.rpartition(":")[2].lower() for actor in actors]
        settings = self.fleet.directory / f"{name}.toml"
        settings.write_text("".join(f"[actors.{each}]\npartitions = {self.partitions}\n" for each in names))
        arguments = ["-m", "runtime", "run", *actors, "--workers", str(workers), "--config", str(settings)]
        arguments += ["--nats", self.servers.url, "--namespace", self.namespace, "--lease-ttl", str(lease_ttl)]
        arguments += ["--replicas", str(self.servers.replicas), "--log-format", "text"]
        return self.fleet.start(Program(name, arguments, ready=f" by {workers} workers ("))

    def call(self, timeout: float, skew: float, without: Iterable[str] = ()) -> Worker:
        """Start a process of callers that send each command once and wait `timeout` seconds; see `tests.chaos.caller`."""
        arguments = ["-m", "tests.support.wall_clock", str(skew), "tests.chaos.caller", "--nats", self.servers.url]
        arguments += ["--namespace", self.namespace, "--timeout", str(timeout), f"--skew={skew}"]
        for safeguard in without:
            arguments += ["--without", safeguard]
        return self.fleet.start(Program(f"{self.namespace}-callers", arguments, keep=False))

    async def verdict(self, **options: Any) -> Verdict:
        """Stop the load, wait until all effects have arrived, and compare them with the outcomes; see `audit`."""
        await self.load.stop()
        return await audit(
            self.connection, self.bus, self.namespace, self.load.outcomes, partitions=self.partitions, **options
        )

    def report(self, result: Result, verdict: Verdict) -> None:
        """Add this cell's outcomes to the result. Lost or double effects, and effects out of order, are problems."""
        outcomes = self.load.outcomes
        result.lost += verdict.lost
        result.twice += verdict.twice
        result.stall = max(result.stall, outcomes.stall)
        result.figures["commands"] = result.figures.get("commands", 0) + outcomes.commands
        result.figures["attempts of unknown outcome"] = (
            result.figures.get("attempts of unknown outcome", 0) + outcomes.unknown
        )
        result.figures["refused"] = result.figures.get("refused", 0) + outcomes.refused
        result.figures["slowest command, s"] = round(
            max(result.figures.get("slowest command, s", 0.0), outcomes.slowest), 2
        )
        if outcomes.retry_failures:
            result.problems.append(
                f"retry() failed {len(outcomes.retry_failures)} times, first: {outcomes.retry_failures[0]}"
            )
        if not verdict.good:
            result.problems.append(
                f"{self.namespace}: lost {verdict.lost}, twice {verdict.twice}, out of order {verdict.disorder}"
            )
            result.problems += [f"  {line}" for line in verdict.problems]
        self.check_logs(result)

    def report_damage(self, result: Result, verdict: Verdict) -> None:
        """Add the counts of a control run to the result. They are no problems, because a control must find damage."""
        result.lost += verdict.lost
        result.twice += verdict.twice
        result.stall = self.load.outcomes.stall
        result.figures["commands"] = self.load.outcomes.commands

    def check_logs(self, result: Result) -> None:
        """Add each stack trace in a log of this cell as a problem."""
        result.problems += [f"a stack trace in the log: {line}" for line in self.fleet.log_errors()[:5]]


@asynccontextmanager
async def open_cell(setting: Setting, servers: Servers, namespace: str, **load: Any) -> AsyncIterator[Cell]:
    """Open a cell for the duration of the block, with a `Load` that takes the `load` arguments."""
    connection = await Connection.connect(ConnectionOptions(url=servers.url, ping_interval=1.0), name="chaos")
    tracing = Tracing()
    bus = Bus(connection, tracing.service("chaos"), namespace=namespace)
    fleet = Fleet(setting.directory, forks=setting.short)
    try:
        async with fleet:
            yield Cell(servers, namespace, connection, bus, fleet, Load(bus, setting.rng(namespace), **load))
    finally:
        await connection.close()
        tracing.shutdown()


@asynccontextmanager
async def single_cell(setting: Setting, result: Result, namespace: str, **load: Any) -> AsyncIterator[Cell]:
    """Open a cell on servers of its own for the duration of the block, which is added to the result."""
    async with (
        timed(result),
        Servers(setting.directory, setting.nodes) as servers,
        open_cell(setting, servers, namespace, **load) as cell,
    ):
        yield cell


@asynccontextmanager
async def timed(result: Result) -> AsyncIterator[None]:
    """Add the duration of the block to the result."""
    begun = time.monotonic()
    try:
        yield
    finally:
        result.seconds += time.monotonic() - begun
