"""Load generators in Python, the same for every contender: a closed loop, and an open loop at a fixed rate.

Results carry latencies in tenths of a microsecond: an array of unsigned 32-bit integers, as base64.
"""

import asyncio
import base64
import time
from array import array
from collections.abc import Awaitable, Callable
from typing import Any

TICK = 1e-7
"""Seconds per unit of the latencies."""

Request = Callable[[int], Awaitable[object]]
"""Sends one request and returns once it is answered. The argument is the number of the worker or request."""


async def closed_loop(request: Request, in_flight: int, seconds: float) -> dict[str, Any]:
    """Keep `in_flight` requests in flight for `seconds`.

    Returns:
        The result of `result`.

    Raises:
        ExceptionGroup: A request failed. The run ends with its error.
    """
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


async def open_loop(request: Request, rate: float, seconds: float, max_in_flight: int = 4096) -> dict[str, Any]:
    """Send `rate` requests per second for `seconds`, without waiting for replies.

    A latency is counted from the time at which the request was due, so a stall delays every request that is due while it
    lasts (no coordinated omission). At `max_in_flight` further requests wait to be sent, and that time counts as well.
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
        while clock() < due or len(running) >= max_in_flight:
            await asyncio.sleep(max(0.0, (due - clock()) / 1e9))
        task = asyncio.create_task(one(due, number))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return result(took, (clock() - begun) / 1e9, (time.process_time_ns() - cpu) / 1e3)


def bursts(burst: Callable[[int], None], size: int, seconds: float) -> dict[str, Any]:
    """Handle bursts of `size` messages for `seconds`, for libraries without an event loop.

    Args:
        burst: Handles this many messages. It blocks until all are handled.
        size: Messages per burst.
        seconds: Duration of the run.

    Returns:
        The values of `result` without latencies.
    """
    count = 0
    begun, cpu = time.perf_counter(), time.process_time_ns()
    while time.perf_counter() - begun < seconds:
        burst(size)
        count += size
    return {"count": count, "seconds": time.perf_counter() - begun, "cpu_us": (time.process_time_ns() - cpu) / 1e3}


def result(took_ns: "array[int]", seconds: float, cpu_us: float) -> dict[str, Any]:
    """Return a run as JSON values: `count`, `seconds`, `cpu_us` (total microseconds of CPU time) and `latencies`."""
    ticks = array("I", (min(ns // 100, 0xFFFFFFFF) for ns in took_ns))
    return {
        "count": len(ticks),
        "seconds": seconds,
        "cpu_us": cpu_us,
        "latencies": base64.b64encode(ticks.tobytes()).decode(),
    }
