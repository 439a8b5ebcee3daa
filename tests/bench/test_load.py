"""Tests of the load generators: the number of requests, and an open loop that does not hide a stall."""

import asyncio
import base64
import os
import signal
import time
from array import array
from pathlib import Path
from typing import Any

import pytest

from bench import load
from runtime.nats.server import EmbeddedServer


def latencies(result: dict[str, Any]) -> list[float]:
    """Return the latencies of a run in seconds."""
    return [tick * load.TICK for tick in array("I", base64.b64decode(result["latencies"]))]


async def test_a_closed_loop_keeps_a_fixed_number_of_requests_in_flight() -> None:
    running: set[int] = set()
    most = 0

    async def request(number: int) -> None:
        nonlocal most
        assert number not in running
        running.add(number)
        most = max(most, len(running))
        await asyncio.sleep(0)
        running.discard(number)

    result = await load.closed_loop(request, 7, 0.05)
    assert most == 7
    assert result["count"] == len(latencies(result)) > 7
    assert result["seconds"] >= 0.05


async def test_a_closed_loop_ends_with_the_error_of_a_failed_request() -> None:
    async def request(_: int) -> None:
        raise ConnectionError("gone")

    with pytest.raises(ExceptionGroup) as caught:
        await load.closed_loop(request, 3, 5.0)
    assert caught.group_contains(ConnectionError, match="gone")


async def test_an_open_loop_counts_a_stall_for_every_request_due_during_it() -> None:
    stalled = False

    async def request(_: int) -> None:
        nonlocal stalled
        if not stalled:
            stalled = True
            time.sleep(0.2)  # noqa: ASYNC251 - the stall: it blocks the event loop

    took = latencies(await load.open_loop(request, rate=1000, seconds=0.2))
    # 200 requests are due during the stall. Counted from the time of sending, all but one would be instant.
    assert len(took) == 200
    assert sum(seconds > 0.05 for seconds in took) > 100


async def test_the_open_loop_of_nats_go_counts_a_stall_as_well(
    nats_server: EmbeddedServer, namespace: str, tmp_path: Path
) -> None:
    pytest.importorskip("hdrh", reason="make bench installs the bench extra")
    from rich.progress import Progress

    from bench import results
    from bench.sides import go
    from bench.suite import Suite

    binary = go.program()
    if not binary.exists():
        pytest.skip("nats.go is not built: make bench builds it")
    suite = Suite(results.new_report(True), Progress(disable=True), tmp_path)
    async with suite.question():
        answering = await go.side(suite, binary, "pricing", nats_server.url, f"{namespace}.quote", True)
        caller = await go.side(suite, binary, "caller", nats_server.url, f"{namespace}.quote", True)
        os.kill(answering.pid, signal.SIGSTOP)
        run = asyncio.create_task(caller.call("open", rate=1000, seconds=0.6))
        await asyncio.sleep(0.4)  # the stall
        os.kill(answering.pid, signal.SIGCONT)
        took = latencies(await run)
    assert len(took) == 600
    assert sum(seconds > 0.1 for seconds in took) > 200
