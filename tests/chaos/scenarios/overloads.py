"""Overload: at five times its capacity, an actor handles accepted commands in time and refuses the rest at once."""

import asyncio
import time
from collections import Counter as Tally
from dataclasses import dataclass, field

from runtime import Overloaded, RequestError
from runtime.wire.ids import new_id
from tests.chaos.cell import Cell, Result, Setting, single_cell
from tests.chaos.overload import CONCURRENCY, MAILBOX, SERVICE_TIME, GetDone, Work

KEYS = [f"job-{n}" for n in range(20_000)]
"""So many keys that commands rarely wait for another one of their key."""

CAPACITY = CONCURRENCY / SERVICE_TIME
"""Commands per second."""


@dataclass
class _Outcomes:
    """Seconds until the reply of accepted and refused commands, other errors by text, and successes by key."""

    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    with_retry_after: int = 0
    """Refusals that contain the time after which to retry."""
    others: Tally[str] = field(default_factory=Tally)
    done: Tally[str] = field(default_factory=Tally)


async def overload(setting: Setting) -> Result:
    """Commands arrive at five times the capacity: latency of accepted ones and of refusals (429 with retryAfter), memory."""
    result = Result("overload", setting.seed)
    rng = setting.rng("overload")
    async with single_cell(setting, result, "overload") as cell:
        worker = cell.start("tests.chaos.overload:Slow")
        await worker.ready()
        calm = _Outcomes()
        await _offer(cell, [rng.choice(KEYS) for _ in range(int(CAPACITY / 2))], CAPACITY / 2, calm)
        before = worker.rss()
        outcomes = _Outcomes()
        seconds = setting.size(20, 3)
        await _offer(cell, [rng.choice(KEYS) for _ in range(int(5 * CAPACITY * seconds))], 5 * CAPACITY, outcomes)
        grown = worker.rss() - before
        for key in rng.sample(KEYS, 500) + list(outcomes.done)[:1000]:
            count = (await cell.bus.query(GetDone(key))).count
            expected = outcomes.done[key] + calm.done[key]
            result.lost += max(expected - count, 0)
            result.twice += max(count - expected, 0)
            result.require(count == expected, f"{key}: handled {count} times, accepted {expected} times")
        _judge(result, calm, outcomes, seconds, grown)
        cell.check_logs(result)
    result.load = f"{len(outcomes.accepted) + len(outcomes.refused)} commands in {seconds} s, {5 * CAPACITY:.0f}/s; capacity {CAPACITY:.0f}/s"
    result.faults = "five times the capacity"
    return result


def _judge(result: Result, calm: _Outcomes, outcomes: _Outcomes, seconds: float, grown: int) -> None:
    accepted, refused = sorted(outcomes.accepted), sorted(outcomes.refused)
    result.require(not outcomes.others, f"neither accepted nor refused: {dict(outcomes.others)}")
    result.require(len(refused) > len(accepted), "too few commands were refused")
    result.require(outcomes.with_retry_after == len(refused), "a refusal has no time after which to retry")
    p50, p99 = _percentile(accepted, 0.5), _percentile(accepted, 0.99)
    # Little's law: the commands in the mailbox and in progress, divided by the rate that this machine reaches now.
    explained = (MAILBOX + CONCURRENCY) * seconds / max(len(accepted), 1)
    result.require(p50 < 2 * explained and p99 < 6 * explained, f"accepted: p50 {p50:.3f} s, p99 {p99:.3f} s")
    result.require(_percentile(refused, 0.5) < p50 / 2, "refusals take as long as accepted commands")
    result.require(grown < 32 * 2**20, f"memory grew by {grown / 2**20:.0f} MiB")
    result.figures |= {
        "accepted": f"{len(accepted)}, p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms (at half capacity p99 "
        f"{_percentile(sorted(calm.accepted), 0.99) * 1000:.0f} ms)",
        "refused": f"{len(refused)} with 429 and retryAfter, p50 {_percentile(refused, 0.5) * 1000:.1f} ms, "
        f"p99 {_percentile(refused, 0.99) * 1000:.1f} ms",
        "memory": f"grew by {grown / 2**20:.1f} MiB",
    }


def _percentile(times: list[float], share: float) -> float:
    return times[int(len(times) * share)] if times else 0.0


async def _offer(cell: Cell, keys: list[str], rate: float, outcomes: _Outcomes) -> None:
    """Send one command for each of `keys` at `rate` per second, without waiting for replies (an open loop)."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    tasks: set[asyncio.Task[None]] = set()
    for number, key in enumerate(keys):
        if (ahead := begun + number / rate - loop.time()) > 0:
            await asyncio.sleep(ahead)
        task = loop.create_task(_send(cell, key, outcomes))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


async def _send(cell: Cell, key: str, outcomes: _Outcomes) -> None:
    begun = time.perf_counter()
    try:
        await cell.bus.command(Work(key), id=new_id(), timeout=5)
    except Overloaded as error:
        outcomes.refused.append(time.perf_counter() - begun)
        outcomes.with_retry_after += error.retry_after > 0
    except RequestError as error:
        outcomes.others[f"{type(error).__name__}: {error}"] += 1
    else:
        outcomes.accepted.append(time.perf_counter() - begun)
        outcomes.done[key] += 1
