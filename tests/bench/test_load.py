"""The load generators count what was asked, and an open loop does not hide a stall."""

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


def latencies(found: dict[str, Any]) -> list[float]:
    """Seconds."""
    return [tick * load.TICK for tick in array("I", base64.b64decode(found["latencies"]))]


async def test_closed_keeps_so_many_in_flight() -> None:
    running: set[int] = set()
    seen = 0

    async def request(number: int) -> None:
        nonlocal seen
        assert number not in running
        running.add(number)
        seen = max(seen, len(running))
        await asyncio.sleep(0)
        running.discard(number)

    found = await load.closed(request, 7, 0.05)
    assert seen == 7
    assert found["count"] == len(latencies(found)) > 7
    assert found["seconds"] >= 0.05


async def test_closed_ends_with_the_error_of_a_request() -> None:
    async def request(_: int) -> None:
        raise ConnectionError("gone")

    with pytest.raises(ExceptionGroup) as caught:
        await load.closed(request, 3, 5.0)
    assert caught.group_contains(ConnectionError, match="gone")


async def test_open_counts_a_stall_for_all_who_would_have_met_it() -> None:
    stalled = False

    async def request(_: int) -> None:
        nonlocal stalled
        if not stalled:
            stalled = True
            time.sleep(0.2)  # noqa: ASYNC251 - the stall: nobody is served meanwhile

    found = await load.opened(request, rate=1000, seconds=0.2)
    took = latencies(found)
    # 200 requests were due while the first one stalled. Timed from when they were sent, all but one would be instant.
    assert len(took) == 200
    assert sum(one > 0.05 for one in took) > 100


async def test_open_of_nats_go_counts_a_stall_too(nats_server: EmbeddedServer, namespace: str, tmp_path: Path) -> None:
    pytest.importorskip("hdrh", reason="the bench has an extra of its own: make bench installs it")
    from rich.progress import Progress

    from bench import results
    from bench.sides import go
    from bench.suite import Suite

    binary = go.program()
    if not binary.exists():
        pytest.skip("nats.go is not built here: make bench does it")
    suite = Suite(results.new_report(True), Progress(disable=True), tmp_path)
    async with suite.question():
        answers = await go.side(suite, binary, "pricing", nats_server.url, f"{namespace}.quote", True)
        load = await go.side(suite, binary, "caller", nats_server.url, f"{namespace}.quote", True)
        os.kill(answers.pid, signal.SIGSTOP)
        asked = asyncio.create_task(load.call("open", rate=1000, seconds=0.6))
        await asyncio.sleep(0.4)  # the stall
        os.kill(answers.pid, signal.SIGCONT)
        took = latencies(await asked)
    assert len(took) == 600
    assert sum(one > 0.1 for one in took) > 200
