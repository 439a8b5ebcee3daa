"""Load in Python: a closed loop with so many in flight, and an open loop at a fixed rate. The same for every contender.

Latencies are handed over in tenths of a microsecond, as the bytes of an array of unsigned 32-bit integers in base64.
"""

import asyncio
import base64
import time
from array import array
from collections.abc import Awaitable, Callable
from typing import Any

TICK = 1e-7
"""Seconds of one unit of the latencies."""

Request = Callable[[int], Awaitable[object]]
"""Sends one request and returns when it is answered; it is given the number of the worker."""


async def closed(request: Request, in_flight: int, seconds: float) -> dict[str, Any]:
    """Keep `in_flight` requests under way for `seconds`; a request that fails ends the run with its error."""
    clock = time.perf_counter_ns
    took = array("Q")
    begun, cpu = clock(), time.process_time_ns()
    end = begun + int(seconds * 1e9)

    async def worker(number: int) -> None:
        now = clock()
        while now < end:
            await request(number)
            done = clock()
            took.append(done - now)
            now = done

    async with asyncio.TaskGroup() as group:
        for number in range(in_flight):
            group.create_task(worker(number))
    return result(took, (clock() - begun) / 1e9, (time.process_time_ns() - cpu) / 1e3)


async def opened(request: Request, rate: float, seconds: float, most: int = 4096) -> dict[str, Any]:
    """Send `rate` requests a second for `seconds`, whatever becomes of them.

    A latency counts from when its request was due, so that a stall is seen by all who would have met it (no coordinated
    omission). Beyond `most` in flight requests wait to be sent; that counts too.
    """
    clock = time.perf_counter_ns
    took = array("Q")
    running: set[asyncio.Task[None]] = set()
    total = int(rate * seconds)
    begun, cpu = clock(), time.process_time_ns()

    async def one(due: int, number: int) -> None:
        await request(number)
        took.append(clock() - due)

    for number in range(total):
        due = begun + int(number / rate * 1e9)
        while clock() < due or len(running) >= most:
            await asyncio.sleep(max(0.0, (due - clock()) / 1e9))
        task = asyncio.create_task(one(due, number))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return result(took, (clock() - begun) / 1e9, (time.process_time_ns() - cpu) / 1e3)


def bursts(burst: Callable[[], int], seconds: float) -> dict[str, Any]:
    """Call `burst` for `seconds`, which blocks and returns how many messages it had handled: for peers without a loop."""
    count = 0
    begun, cpu = time.perf_counter(), time.process_time_ns()
    while time.perf_counter() - begun < seconds:
        count += burst()
    return {"count": count, "seconds": time.perf_counter() - begun, "cpu_us": (time.process_time_ns() - cpu) / 1e3}


def result(took_ns: "array[int]", seconds: float, cpu_us: float) -> dict[str, Any]:
    """Return what a run hands over: how many, how long, at what CPU time (microseconds in all), and the latencies."""
    ticks = array("I", (min(ns // 100, 0xFFFFFFFF) for ns in took_ns))
    return {
        "count": len(ticks),
        "seconds": seconds,
        "cpu_us": cpu_us,
        "latencies": base64.b64encode(ticks.tobytes()).decode(),
    }
