"""One bank under test: its processes, its customers, and the report of what they have seen."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from runtime import ActorError, PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.wire.subjects import Names
from tests.chaos.bank import Slip
from tests.chaos.bank_audit import BankVerdict, Movement, audit_bank
from tests.chaos.cell import Cell, Result, Setting, open_cell, timed
from tests.chaos.depositors import ATTEMPT, LONG_TIMEOUT, Crowd, Depositors
from tests.chaos.fleet import Worker
from tests.chaos.history import History
from tests.chaos.porcupine import Unavailable, check_linearizable
from tests.chaos.servers import Servers

BANK = "tests.chaos.bank:Bank"
BOOKS = "tests.chaos.bank:Books"


class BankCell:
    """A bank with its customers."""

    def __init__(self, cell: Cell, setting: Setting, crowd: Crowd) -> None:
        self.cell = cell
        self.servers = cell.servers
        self._salt = f"{setting.seed}/{cell.namespace}/depositors"
        self.depositors = Depositors(cell.bus, random.Random(self._salt), crowd)
        self.banks: list[Worker] = []
        """The processes of the bank: the owner of its keys, and standbys."""
        self.jetstream = JetStream(cell.connection, timeout=2.0)
        self._full = not setting.short

    @property
    def history(self) -> History:
        return self.depositors.history

    def start_bank(self, **options: Any) -> Worker:
        """Start one more process of the bank; see `Cell.start`."""
        worker = self.cell.start(BANK, **options)
        self.banks.append(worker)
        return worker

    def start_workers(self, workers: int) -> Worker:
        """Start a parent with so many worker processes of the bank; see `Cell.start_workers`."""
        parent = self.cell.start_workers(BANK, workers=workers)
        self.banks.append(parent)
        return parent

    async def restart_customers(self, crowd: Crowd, known: dict[str, Slip]) -> None:
        """Replace the customers by others, who begin with the accounts in `known`; the former ones must have stopped."""
        self.depositors = Depositors(self.cell.bus, random.Random(f"{self._salt}/again"), crowd, known)
        self.depositors.start()

    async def watch_events(self) -> None:
        """Let each `Moved` event show its version: whoever queries an account after an event must not see less."""
        names = Names("bank", self.cell.namespace)
        await self.cell.connection.subscribe(names.event("moved", "*"), self._on_moved)

    def _on_moved(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        movement = msgspec.json.decode(payload, type=Movement)
        self.history.show(movement.account, movement.version)

    async def owner(self, partition: int = 0) -> Worker:
        """Return the process that the lease of a partition names, once it names a living one.

        Raises:
            TimeoutError: It names none for 30 seconds.
        """
        async with asyncio.timeout(30):
            while True:
                pid = await self.owner_id(partition)
                for worker in self.banks:
                    if worker.alive and worker.pid == pid:
                        return worker
                await asyncio.sleep(0.02)

    async def owner_id(self, partition: int) -> int:
        """Return the id of the process that the lease of a partition names; 0 if it names none now."""
        bucket = f"{self.cell.namespace}-leases"
        try:
            stored = await self.jetstream.get_last(f"KV_{bucket}", f"$KV.{bucket}.bank.{partition}")
        except (ActorError, PublishError, TimeoutError):
            return 0
        return msgspec.json.decode(stored.payload)["pid"] if stored is not None and stored.payload else 0

    def marks(self) -> tuple[int, int]:
        """Return what `require_clean` compares: numbers of unknown outcomes, and of accounts that lists had not yet learned."""
        return self.history.unknown, self.history.lagging

    def require_clean(self, result: Result, before: tuple[int, int], during: str) -> None:
        """Require that each attempt since `before` has a known outcome, and that each list was complete at once."""
        unknown, lagging = (now - then for now, then in zip(self.marks(), before, strict=True))
        result.require(not unknown, f"{unknown} attempts had an unknown outcome during {during}")
        result.require(not lagging, f"{lagging} accounts in lists were behind during {during}")

    async def finish(self, result: Result, bound: float, *, since: int = 0) -> BankVerdict:
        """Stop the customers, audit the bank, and add what was found to the result.

        Args:
            result: The result of the scenario.
            bound: The longest permitted wait of an operation in seconds. A single attempt ends at its deadline in any case.
            since: See `audit_bank`.
        """
        await self.depositors.stop()
        cell = self.cell
        verdict = await audit_bank(
            cell.connection, cell.namespace, self.history, since=since, partitions=cell.partitions
        )
        for account, chain in verdict.chains.items():
            self.history.show(account, max(chain, default=0))
        await self.depositors.read_all()  # nobody writes any more, so a copy that is stale would stay so
        history = self.history
        result.lost += verdict.lost
        result.twice += verdict.twice
        result.reads += len(history.reads) + history.listed
        result.stale += history.stale + history.stale_lists + history.stale_commands
        result.stall = max(result.stall, history.stall)
        self._count(result, verdict)
        self._judge(result, verdict)
        for kind, wait in history.waits.items():
            most = LONG_TIMEOUT + 0.5 if kind == ATTEMPT else bound
            result.require_pace(wait <= most, f"a {kind} waited for {wait:.2f} s, and {most:g} s is the bound")
        if self._full:
            await self._check_linearizable(result, verdict)
        return verdict

    def _count(self, result: Result, verdict: BankVerdict) -> None:
        history, figures = self.history, result.figures
        figures["commands"] = figures.get("commands", 0) + history.successes
        figures["attempts of unknown outcome, refused"] = f"{history.unknown}, {history.refused}"
        figures["made of nothing, executed although refused"] = f"{verdict.made}, {verdict.phantoms}"
        figures["accounts in lists, behind by less than a second"] = f"{history.listed}, {history.lagging}"
        figures["longest waits, s"] = ", ".join(f"{kind} {wait:.2f}" for kind, wait in sorted(history.waits.items()))

    def _judge(self, result: Result, verdict: BankVerdict) -> None:
        history = self.history
        stale = history.stale + history.stale_lists + history.stale_commands
        if stale:
            kinds = f"{history.stale} queries, {history.stale_lists} in lists, {history.stale_commands} commands"
            result.problems += [f"stale answers: {kinds}", *(f"  {line}" for line in history.examples)]
        if not verdict.good:
            result.problems.append(
                f"lost {verdict.lost}, twice {verdict.twice}, made of nothing {verdict.made}, "
                f"executed although refused {verdict.phantoms}, out of order {verdict.disorder}, wrong answers {verdict.wrong}, "
                f"unresolved {verdict.unresolved}"
            )
            result.problems += [f"  {line}" for line in verdict.problems]
        for line, number in history.unexpected.most_common(5):
            result.problems.append(f"an outcome outside the contract, {number} times: {line}")
        exits = {code for worker in self.cell.fleet.workers for code in worker.exit_codes} - {0, -signal.SIGKILL}
        result.require(not exits, f"processes ended with {exits}")
        self.cell.check_logs(result)

    async def _check_linearizable(self, result: Result, verdict: BankVerdict) -> None:
        try:
            report = await check_linearizable(self.history, verdict)
        except Unavailable as reason:
            result.problems.append(f"the histories were NOT checked for linearizability: {reason}")
            return
        result.figures["operations checked by Porcupine"] = report.checked
        for name, chunks in (("is not linearizable", report.illegal), ("was not checked in time", report.timed_out)):
            if chunks:
                result.problems.append(f"{len(chunks)} histories: each {name}; first: {chunks[0]}")


@asynccontextmanager
async def open_bank(
    setting: Setting,
    result: Result,
    namespace: str,
    *,
    crowd: Crowd | None = None,
    banks: Sequence[dict[str, Any]] = ({}, {}),
    without: Iterable[str] = (),
    servers: Servers | None = None,
    partitions: int = 1,
    workers: int = 0,
    **options: Any,
) -> AsyncIterator[BankCell]:
    """Run a bank on servers of its own for the duration of the block, under load.

    Args:
        setting: The setting of the scenario.
        result: Gets the duration of the block.
        namespace: The namespace.
        crowd: The customers.
        banks: Options of `Cell.start` for each process of the bank.
        without: Safeguards of the bank that are switched off.
        servers: Servers that run already.
        partitions: Partitions of the keys of the bank and of its books.
        workers: Number of worker processes of one parent, which runs the bank in place of `banks`; 0 for none.
        options: Options of `Cell.start` for all of them.
    """
    async with timed(result):
        if servers is not None:
            async with _on(servers, setting, namespace, crowd, banks, without, partitions, workers, options) as bank:
                yield bank
            return
        async with (
            Servers(setting.directory, setting.nodes) as own,
            _on(own, setting, namespace, crowd, banks, without, partitions, workers, options) as bank,
        ):
            yield bank


@asynccontextmanager
async def _on(
    servers: Servers,
    setting: Setting,
    namespace: str,
    crowd: Crowd | None,
    banks: Sequence[dict[str, Any]],
    without: Iterable[str],
    partitions: int,
    workers: int,
    options: dict[str, Any],
) -> AsyncIterator[BankCell]:
    async with open_cell(setting, servers, namespace) as cell:
        cell.partitions = partitions
        bank = BankCell(cell, setting, crowd or Crowd())
        await bank.watch_events()
        if workers:
            bank.start_workers(workers)
        for own in () if workers else banks:
            bank.start_bank(**{"without": without, **options, **own})
        books = cell.start(BOOKS, lease_ttl=options.get("lease_ttl", 1.0))
        bank.depositors.start()
        await bank.depositors.wait_for_more(100)
        await books.ready()
        yield bank
