"""Does a message cost more as endpoints and stored keys grow, and what do start-up and memory cost then?"""

import time

from bench.process import Child
from bench.suite import Round, Suite, exchange

FEW, MANY = 10, 10_000
"""Endpoints of one process."""
STORED = (1_000, 100_000)
MOST = 1_000_000
"""With `--large`: two minutes more, and half a gigabyte of disk."""


async def run(suite: Suite) -> None:
    """10 and 10,000 endpoints in one process; 1,000 and 100,000 stored keys (and a million), listed by an index."""
    url = await suite.server()
    rounds: dict[str, Round] = {}
    for count in (FEW, MANY):
        begun = time.perf_counter()
        actor = await suite.side("wide:actor", url=url, namespace=f"wide{count}", count=count)
        seconds = time.perf_counter() - begun
        caller = await suite.side("wide:caller", url=url, namespace=f"wide{count}", count=count)
        suite.note("growth", "start", f"{count} endpoints", seconds=seconds, mib=actor.resident() / 2**20)
        given = {"in_flight": 64, "seconds": suite.seconds}
        if count > FEW:
            # Apart from caches, which hold what is used: does finding an endpoint cost more among many?
            rounds[f"{FEW} of {count} endpoints"] = exchange(caller, actor, "quotes", used=FEW, **given)
        rounds[f"{count} endpoints"] = exchange(caller, actor, "quotes", **given)
    await suite.compare("growth", "endpoints", rounds)
    rounds = {}
    for count in (*STORED, MOST) if suite.large else STORED:
        actor, caller = await _stored(suite, url, count)
        rounds[f"{count} stored keys"] = exchange(
            caller, actor, "deposits", in_flight=64, seconds=suite.seconds, keys=64
        )
    await suite.compare("growth", "stored keys", rounds)


async def _stored(suite: Suite, url: str, count: int) -> tuple[Child, Child]:
    """Start an actor that finds `count` keys in its stream, and a caller for it."""
    space = f"stored{count}"
    writer = await suite.side("wide:writer", url=url, namespace=space)
    task = suite.progress.add_task(f"growth, storing {count}", total=count)
    step = 20_000
    for first in range(0, count, step):
        await writer.call("store", first=first, count=min(step, count - first), timeout=120)
        suite.progress.advance(task, min(step, count - first))
    await writer.stop()
    begun = time.perf_counter()
    actor = await suite.side("wide:listed", url=url, namespace=space, timeout=300)
    seconds = time.perf_counter() - begun
    suite.note("growth", "start", f"{count} stored keys", seconds=seconds, mib=actor.resident() / 2**20)
    return actor, await suite.side("own:caller", url=url, namespace=space)
