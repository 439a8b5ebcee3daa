"""The load generators count what was asked, and an open loop does not hide a stall."""

import asyncio
import base64
import time
from array import array
from typing import Any

import pytest

from bench import load


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
