"""Overload: five times what an actor can do; what it takes it does in time, the rest it refuses at once."""

import asyncio
import time
from collections import Counter as Tally
from dataclasses import dataclass, field

from runtime import Overloaded, RequestError
from runtime.wire.ids import new_id
from tests.chaos.cell import Cell, Result, Setting, cell, measured
from tests.chaos.overload import CONCURRENCY, MAILBOX, SERVICE_TIME, GetDone, Work
from tests.chaos.servers import Servers

KEYS = [f"job-{n}" for n in range(20_000)]  # so many that hardly any waits for another of its key
CAPACITY = CONCURRENCY / SERVICE_TIME


@dataclass
class _Told:
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    patient: int = 0
    """Refusals that said when to come again."""
    others: Tally[str] = field(default_factory=Tally)
    done: Tally[str] = field(default_factory=Tally)


async def overload(setting: Setting) -> Result:
    """Commands at five times capacity: latency of the accepted, speed of the refusals (429 with retryAfter), memory."""
    result = Result("overload", setting.seed)
    rng = setting.rng("overload")
    async with measured(result), Servers(setting.directory) as servers, cell(setting, servers, "overload") as here:
        worker = here.start("tests.chaos.overload:Slow")
        await worker.ready()
        told = _Told()
        await _offer(here, [rng.choice(KEYS) for _ in range(int(CAPACITY / 2))], CAPACITY / 2, told)
        before = worker.rss()
        alone, told = told, _Told()
        seconds = setting.much(20, 3)
        await _offer(here, [rng.choice(KEYS) for _ in range(int(5 * CAPACITY * seconds))], 5 * CAPACITY, told)
        grown = worker.rss() - before
        for key in rng.sample(KEYS, 500) + list(told.done)[:1000]:
            count = (await here.bus.query(GetDone(key))).count
            right = told.done[key] + alone.done[key]
            result.lost += max(right - count, 0)
            result.twice += max(count - right, 0)
            result.require(count == right, f"{key}: done {count} times, accepted {right} times")
        _judge(result, alone, told, seconds, grown)
        here.complain(result)
    result.load = f"{len(told.accepted) + len(told.refused)} commands in {seconds} s, {5 * CAPACITY:.0f}/s; capacity {CAPACITY:.0f}/s"
    result.faults = "five times what it can do"
    return result


def _judge(result: Result, alone: _Told, told: _Told, seconds: float, grown: int) -> None:
    accepted, refused = sorted(told.accepted), sorted(told.refused)
    result.require(not told.others, f"neither done nor refused: {dict(told.others)}")
    result.require(len(refused) > len(accepted), "hardly anything was refused")
    result.require(told.patient == len(refused), "a refusal does not say when to come again")
    p50, p99 = _at(accepted, 0.5), _at(accepted, 0.99)
    # Little's law: with so many in the mailbox and in work, at the rate that this machine gives just now.
    explained = (MAILBOX + CONCURRENCY) * seconds / max(len(accepted), 1)
    result.require(p50 < 2 * explained and p99 < 6 * explained, f"accepted: p50 {p50:.3f} s, p99 {p99:.3f} s")
    result.require(_at(refused, 0.5) < p50 / 2, "refusals wait as long as what is accepted")
    result.require(grown < 32 * 2**20, f"memory grew by {grown / 2**20:.0f} MiB")
    result.figures |= {
        "accepted": f"{len(accepted)}, p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms (at half capacity p99 "
        f"{_at(sorted(alone.accepted), 0.99) * 1000:.0f} ms)",
        "refused": f"{len(refused)} with 429 and retryAfter, p50 {_at(refused, 0.5) * 1000:.1f} ms, "
        f"p99 {_at(refused, 0.99) * 1000:.1f} ms",
        "memory": f"grew by {grown / 2**20:.1f} MiB",
    }


def _at(times: list[float], share: float) -> float:
    return times[int(len(times) * share)] if times else 0.0


async def _offer(here: Cell, keys: list[str], rate: float, told: _Told) -> None:
    """Send one command for each of `keys` at `rate` a second, whatever becomes of them (an open loop)."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    tasks: set[asyncio.Task[None]] = set()
    for number, key in enumerate(keys):
        if (ahead := begun + number / rate - loop.time()) > 0:
            await asyncio.sleep(ahead)
        task = loop.create_task(_one(here, key, told))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


async def _one(here: Cell, key: str, told: _Told) -> None:
    begun = time.perf_counter()
    try:
        await here.bus.command(Work(key), id=new_id(), timeout=5)
    except Overloaded as error:
        told.refused.append(time.perf_counter() - begun)
        told.patient += error.retry_after > 0
    except RequestError as error:
        told.others[f"{type(error).__name__}: {error}"] += 1
    else:
        told.accepted.append(time.perf_counter() - begun)
        told.done[key] += 1
