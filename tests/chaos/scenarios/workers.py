"""`actorloom run --workers N` as real processes, under load: restarts, and deaths of workers and of their parent."""

import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.chaos.bank_cell import BankCell, open_bank
from tests.chaos.cell import Result, Setting
from tests.chaos.depositors import Crowd
from tests.chaos.fleet import Worker, until
from tests.chaos.scenarios.bank import observe

PARTITIONS = 8
_WORKERS = 2
_BOUND = 12.0
"""Seconds that an operation may wait: two leases in a row, and the start of processes."""
_STOPPED = "actorloom.cli: stopped  worker="
"""The last line in the log of a worker that has drained."""
_END = 25.0
"""Seconds within which the workers of a dead parent must end."""


async def workers(setting: Setting) -> Result:
    """`run --workers 2` is replaced by another one beside it, one of two parents is killed, and then workers are killed."""
    result = Result("workers", setting.seed)
    rng = setting.rng("workers")
    restarts, deaths, parents = setting.size(3, 1), setting.size(2, 1), setting.size(2, 1)
    # Nobody gives up while a partition moves, so each unknown outcome is a fault. It must not surface later, so deaths come last.
    crowd = Crowd(hasty=0, timeout=5.0)
    async with open_bank(setting, result, "workers", crowd=crowd, workers=_WORKERS, partitions=PARTITIONS) as bank:
        async with _all_ended(bank, result):
            for _ in range(restarts):
                await _restart(bank, result)
                await observe(bank, 0.3)
            await bank.start_workers(_WORKERS).ready()
            for number in range(parents):
                await _kill_parent(bank, bank.banks[number % 2], result)
                await observe(bank, rng.uniform(0.5, 1.5))
            for number in range(deaths):
                await _kill_worker(bank, bank.banks[number % 2], rng)
                await observe(bank, rng.uniform(0.5, 1.5))
            await bank.finish(result, _BOUND)
    result.load = "6 holders, 4 customers who send once, 6 readers, a lister"
    result.faults = (
        f"{restarts} SIGTERM of a parent with {_WORKERS} workers beside a new one, {parents} kill -9 of one of two "
        f"parents, {deaths} of workers"
    )
    return result


async def _restart(bank: BankCell, result: Result) -> None:
    """Start a second parent, and drain the first one as soon as the second one is ready: no command may fail."""
    before = bank.banks[0]
    await before.ready()
    marks = bank.marks()
    await bank.start_workers(_WORKERS).ready()
    children = before.children()
    bank.banks.remove(before)
    code = await bank.cell.fleet.retire(before, timeout=60)
    result.require(code == 0, f"a parent that drained has ended with {code}")
    result.require(not any(map(_runs, children)), "a worker has outlived its parent, which drained")
    bank.require_clean(result, marks, "the restart of all workers")


async def _kill_worker(bank: BankCell, parent: Worker, rng: random.Random) -> None:
    """Kill a worker that owns partitions, and wait until its parent has started it again."""
    await parent.ready()
    again = parent.log.read_text().count(" is ready again")
    bank.depositors.burst(0.05)
    killed = 0
    while not killed:
        pid = await bank.owner_id(rng.randrange(PARTITIONS))
        killed = pid if pid in parent.children() else 0
    os.kill(killed, signal.SIGKILL)
    await until(lambda: parent.log.read_text().count(" is ready again") > again, 30.0, "a worker that was killed")


async def _kill_parent(bank: BankCell, parent: Worker, result: Result) -> None:
    """Kill one of two parents. Its workers must drain, so no command may fail."""
    await parent.ready()
    children, lives, marks = parent.children(), len(parent.exit_codes), bank.marks()
    drained = parent.log.read_text().count(_STOPPED)
    bank.depositors.burst(0.05)
    parent.kill()
    await until(lambda: len(parent.exit_codes) > lives, 10.0, "the end of a parent")
    with contextlib.suppress(TimeoutError):
        await until(lambda: not any(map(_runs, children)), _END, "the workers of a dead parent")
    result.require(not any(map(_runs, children)), f"workers have outlived their parent by {_END:g} s")
    drained = parent.log.read_text().count(_STOPPED) - drained
    result.require(drained == _WORKERS, f"{drained} of {_WORKERS} workers of a dead parent have drained")
    await parent.ready()
    bank.require_clean(result, marks, "the death of a parent")


@asynccontextmanager
async def _all_ended(bank: BankCell, result: Result) -> AsyncIterator[None]:
    """Drain the parents at the end of the block, and kill what is left of them if that fails."""
    try:
        yield
    finally:
        children = [child for parent in bank.banks if parent.alive for child in parent.children()]
        try:
            for parent in bank.banks:
                code = await bank.cell.fleet.retire(parent, timeout=60)
                result.require(code == 0, f"a parent that drained has ended with {code}")
        finally:
            for pid in filter(_runs, children):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _runs(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
