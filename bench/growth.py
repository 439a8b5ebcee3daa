"""Cost of a message, of start-up and of memory as the numbers of endpoints and stored keys grow."""

import time

from bench.process import Child
from bench.suite import Round, Suite, exchange

FEW, MANY = 10, 10_000
"""Numbers of endpoints in one process."""

STORED = (1_000, 100_000)
"""Numbers of stored keys."""

STORED_LARGE = 1_000_000
"""Number of stored keys that is added by `--large`, which takes two more minutes and half a gigabyte of disk."""


async def run(suite: Suite) -> None:
    """Compare 10 with 10,000 endpoints in one process, and 1,000 with 100,000 (and a million) indexed stored keys."""
    url = await suite.server()
    rounds: dict[str, Round] = {}
    for count in (FEW, MANY):
        begun = time.perf_counter()
        actor = await suite.side("wide:actor", url=url, namespace=f"wide{count}", count=count)
        seconds = time.perf_counter() - begun
        caller = await suite.side("wide:caller", url=url, namespace=f"wide{count}", count=count)
        suite.add_figures("growth", "start", f"{count} endpoints", seconds=seconds, mib=actor.resident() / 2**20)
        await caller.call("use_all", timeout=60)
        load = {"in_flight": 64, "seconds": suite.seconds}
        if count > FEW:
            # Only a few of many endpoints are used here, so caches stay warm: the cost of finding an endpoint alone.
            rounds[f"{FEW} of {count} endpoints"] = exchange(caller, actor, "quotes", used=FEW, **load)
        rounds[f"{count} endpoints"] = exchange(caller, actor, "quotes", **load)
    await suite.compare("growth", "endpoints", rounds)
    rounds = {}
    for count in (*STORED, STORED_LARGE) if suite.large else STORED:
        actor, caller = await _stored(suite, url, count)
        rounds[f"{count} stored keys"] = exchange(
            caller, actor, "deposits", in_flight=64, seconds=suite.seconds, keys=64
        )
    await suite.compare("growth", "stored keys", rounds)


async def _stored(suite: Suite, url: str, count: int) -> tuple[Child, Child]:
    """Store `count` keys; return an actor that has loaded them into its index, and a caller for it."""
    space = f"stored{count}"
    writer = await suite.side("wide:writer", url=url, namespace=space)
    task = suite.progress.add_task(f"growth, storing {count}", total=count)
    step = 20_000
    for first in range(0, count, step):
        await writer.call("store", first=first, count=min(step, count - first), timeout=120)
        suite.progress.advance(task, min(step, count - first))
    await writer.stop()
    begun = time.perf_counter()
    actor = await suite.side("wide:indexed", url=url, namespace=space, timeout=300)
    seconds = time.perf_counter() - begun
    suite.add_figures("growth", "start", f"{count} stored keys", seconds=seconds, mib=actor.resident() / 2**20)
    return actor, await suite.side("actorloom:caller", url=url, namespace=space)
