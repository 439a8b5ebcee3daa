"""Rolling restarts beside slow handlers: other keys go on at once, and the slow ones continue at their new owner."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

from runtime import RequestError
from tests.chaos.actors import SLOW, GetCount
from tests.chaos.cell import Cell, Result, Setting, single_cell
from tests.chaos.fleet import Worker, paused, until
from tests.chaos.load import Load, Outcomes

_SECONDS = 4
"""Seconds that the handlers of slow keys take."""
_DRAIN = 10.0
"""Seconds that a drain may take: more than two slow handlers in a row."""
_STALL = _SECONDS / 2
"""Seconds without a command on any other key that a hand-over may take at most."""
_CONTROL_DRAINS, _CONTROL_READS = 6, 200
"""In a control, how many processes are drained at most, and the reads after each of these."""
_HANDED_OVER = "handed over before"
"""In the log line of a process that hands its keys over while handlers run."""
_TOOK_OVER = "still finishes"
"""In the log line of its successor."""

FAULTS = ("none", "kill the former owner", "kill the successor", "stop the former owner past its time")


class Readers:
    """Query keys all the time, and collect the answers that lack a command which was acknowledged before the query."""

    def __init__(self, cell: Cell, outcomes: Iterable[Outcomes], keys: list[str]) -> None:
        self.reads = 0
        self.stale: list[str] = []
        self._cell = cell
        self._outcomes = list(outcomes)
        self._keys = keys
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            for key in self._keys:
                acknowledged = max(max(each.done.get(key, {}).values(), default=0) for each in self._outcomes)
                try:
                    value = (await self._cell.bus.query(GetCount(key), timeout=2)).value
                except RequestError:
                    continue
                self.reads += 1
                if value < acknowledged:
                    self.stale.append(f"{key}: {value} after {acknowledged} was acknowledged")
                await asyncio.sleep(0.002)


@asynccontextmanager
async def beside_slow_handlers(
    setting: Setting, result: Result, name: str
) -> AsyncIterator[tuple[Cell, Load, Readers]]:
    """Open a cell with a load on fast keys, another one on slow keys, and readers."""
    load = {"keys": 12, "callers": 12, "pause": 0.002, "timeout": 5.0}
    async with single_cell(setting, result, name, **load) as cell:
        slow = Load(cell.bus, setting.rng("slow"), callers=2, timeout=_DRAIN * 2)
        slow.keys = [f"{SLOW}-{_SECONDS}-{name}" for name in "ab"]
        readers = Readers(cell, (cell.load.outcomes, slow.outcomes), [*slow.keys, *cell.load.keys[:2]])
        try:
            yield cell, slow, readers
        finally:
            await readers.stop()
            await slow.stop(0.0)


async def handover(setting: Setting) -> Result:
    """A rolling restart beside handlers of four seconds: no other key waits for them, nothing is lost, twice or stale."""
    result = Result("handover", setting.seed)
    rng = setting.rng("handover")
    faults = ["none"] if setting.short else [*FAULTS, "none", *rng.sample(FAULTS, len(FAULTS))]
    handed_over = 0
    stalls: list[float] = []
    lost_on_the_way = 0
    async with beside_slow_handlers(setting, result, "handover") as (cell, slow, readers):
        workers = await _begin(cell, slow)
        for fault in faults:
            for worker in list(workers)[: setting.size(2, 1)]:
                stall, failed = await _replace(cell, slow, worker, workers, fault)
                handed_over += _HANDED_OVER in worker.log.read_text()
                if fault == "none":
                    stalls.append(stall)
                    lost_on_the_way += failed.unknown
                    last = [*cell.load.outcomes.failures, *slow.outcomes.failures]
                    result.require(
                        not failed.refused and (not failed.unknown or setting.nodes > 1),
                        f"{sum(failed)} attempts failed during a hand-over without a fault, the last of all: {last}",
                    )
        await slow.stop()
        _merge(cell.load.outcomes, slow.outcomes)
        cell.report(result, await cell.verdict())
    result.load = f"12 callers over 12 keys, 2 over 2 keys whose handlers take {_SECONDS} s, and readers"
    result.faults = f"{len(faults) * 2} SIGTERM, with {', '.join(sorted(set(faults) - {'none'})) or 'no other fault'}"
    result.stall = max(stalls)
    result.figures["hand-overs beside a running handler"] = handed_over
    result.figures["reads"] = readers.reads
    if setting.nodes > 1:
        result.figures["attempts that a node lost while a process left, without a fault"] = lost_on_the_way
    result.require(handed_over > 0, "no process was drained beside a slow handler")
    result.require(not readers.stale, f"{len(readers.stale)} stale reads, first: {readers.stale[:1]}")
    result.require_pace(result.stall < _STALL, f"other keys waited for {result.stall:.2f} s")
    return result


async def control_handover(setting: Setting) -> Result:
    """Without the hand-over, other keys must wait for the slow handler."""
    result = Result("control-handover", setting.seed)
    found = await _without(setting, result, "handover", lambda stall, failures: stall > _STALL)
    result.require(found, f"hand-overs are off, but the longest stall is {result.stall:.2f} s: the suite cannot see it")
    return result


async def control_held_keys(setting: Setting) -> Result:
    """If a successor does not know the busy keys, queries must be stale or commands must fail."""
    result = Result("control-held-keys", setting.seed)
    found = await _without(setting, result, "held-keys", lambda stall, failures: failures > 0)
    result.require(found, "no key is held, but nothing is stale and nothing fails: the suite cannot see it")
    return result


async def _without(setting: Setting, result: Result, safeguard: str, found: Callable[[float, int], bool]) -> bool:
    """Drain one process after another with a safeguard switched off.

    Args:
        setting: Parameters of the scenario.
        result: Its result.
        safeguard: The safeguard that is switched off.
        found: Returns whether this has been seen, given the longest stall of the other keys in seconds, and the number of
            stale reads and failed attempts. No further process is drained then.

    Returns:
        Whether it was seen. A process without keys, or a moment without a slow handler, shows nothing.
    """
    async with beside_slow_handlers(setting, result, "control") as (cell, slow, readers):
        workers = await _begin(cell, slow, safeguard)
        drained = failures = 0
        seen = False
        while not seen and drained < _CONTROL_DRAINS:
            stall, failed = await _replace(cell, slow, workers[0], workers, "none", safeguard)
            drained += 1
            failures += sum(failed)
            result.stall = max(result.stall, stall)
            # The last commits of the former owner are missing from the copies of its successor, if any are.
            reads = readers.reads
            await until(lambda reads=reads: readers.reads > reads + _CONTROL_READS, 60, "reads after a hand-over")
            seen = found(result.stall, failures + len(readers.stale))
        result.figures["stale reads"] = len(readers.stale)
        result.figures["failed attempts"] = failures
        await cell.load.stop()
    result.load = f"12 callers over 12 keys, 2 over 2 slow keys, {safeguard} off"
    result.faults = f"{drained} SIGTERM"
    return seen


async def _begin(cell: Cell, slow: Load, *without: str) -> list[Worker]:
    """Start two processes and the load. Return the processes."""
    workers = [_start(cell, *without) for _ in range(2)]
    for worker in workers:
        await worker.ready()
    cell.load.start()
    slow.start()
    await cell.load.wait_for_more(100)
    return workers


def _start(cell: Cell, *without: str) -> Worker:
    return cell.start("counter", "receipts", "ledger", lease_ttl=4.0, drain=_DRAIN, without=without)


async def _replace(
    cell: Cell, slow: Load, worker: Worker, workers: list[Worker], fault: str, *without: str
) -> tuple[float, "_Failures"]:
    """Drain `worker` while slow handlers run, with a fault while it finishes them, and start another process in its place.

    Returns:
        The longest stall of the other keys, and the number of attempts that failed.
    """
    workers.append(_start(cell, *without))
    await workers[-1].ready()
    outcomes, open_before, done = cell.load.outcomes, set(slow.outcomes.pending), slow.outcomes.commands
    # An attempt that a killed process had in hand fails late. At the end of this, the next slow command begins.
    await until(lambda: open_before.isdisjoint(slow.outcomes.pending), 60, "the outcomes of slow commands")
    await until(lambda: slow.outcomes.commands > done, 60, "a slow command")
    failures = _failures(outcomes, slow.outcomes)
    outcomes.stall, outcomes.last = 0.0, time.monotonic()
    worker.stopping = True
    worker.signal(signal.SIGTERM)
    if fault != "none":
        await until(lambda: not worker.alive or _HANDED_OVER in worker.log.read_text(), 30, "a hand-over")
    if fault == "kill the former owner":
        worker.kill()
    elif fault == "kill the successor":
        for each in workers:
            if each is not worker and _TOOK_OVER in each.log.read_text():
                each.kill()
    elif fault == "stop the former owner past its time":
        with paused([worker]):
            await asyncio.sleep(_DRAIN + 1)
    await worker.wait(30)
    workers.remove(worker)
    await cell.load.wait_for_more(50)
    now = _failures(outcomes, slow.outcomes)
    return outcomes.stall, _Failures(now.refused - failures.refused, now.unknown - failures.unknown)


class _Failures(NamedTuple):
    """Numbers of attempts."""

    refused: int
    unknown: int
    """Those without a reply. On a cluster, nodes lose requests that they pass to a process which leaves at this moment."""


def _failures(*outcomes: Outcomes) -> _Failures:
    return _Failures(sum(each.refused for each in outcomes), sum(each.unknown for each in outcomes))


def _merge(outcomes: Outcomes, other: Outcomes) -> None:
    """Add the outcomes of other keys."""
    outcomes.done |= other.done
    outcomes.without_effect |= other.without_effect
    outcomes.pending |= other.pending
    outcomes.differing_replies += other.differing_replies
    outcomes.unexpected += other.unexpected
    outcomes.sent += other.sent
    outcomes.refused += other.refused
    outcomes.unknown += other.unknown
