"""Memory per key, eviction of idle keys, and cost of a message while many keys are in memory."""

import sys

from bench.suite import Suite, exchange
from bench.work import Account

FEW, MANY = 100, 100_000
"""Numbers of keys in memory."""


async def run(suite: Suite) -> None:
    """Measure the bytes per key beyond its state, and turns and reads with 100 and 100,000 keys in memory."""
    url = await suite.server()
    sides = {}
    for count in (FEW, MANY):
        space = f"keys{count}"
        actor = await suite.side("actorloom:actor", url=url, namespace=space, name="accounts")
        caller = await suite.side("actorloom:caller", url=url, namespace=space)
        await caller.call("fill", first=0, count=FEW, timeout=60)
        before = actor.resident()
        if count > FEW:
            task = suite.progress.add_task(f"keys, filling {count}", total=count - FEW)
            for first in range(FEW, count, MANY // 10):
                batch = min(MANY // 10, count - first)
                await caller.call("fill", first=first, count=batch, timeout=180)
                suite.progress.advance(task, batch)
            resident = await actor.call("keys", name="accounts")
            per_key = (actor.resident() - before) / (resident - FEW) - _state_bytes()
            suite.add_figures("keys", f"{MANY} keys", "actorloom", kib=per_key / 1024, keys=resident)
            suite.add_figures("keys", f"{MANY} keys", "one KiB", kib=1.0)
        sides[count] = caller, actor
    for setting, method in (("turns", "deposits"), ("reads", "reads")):
        rounds = {
            f"{count} live keys": exchange(caller, actor, method, in_flight=64, seconds=suite.seconds, keys=count)
            for count, (caller, actor) in sides.items()
        }
        await suite.compare("keys", setting, rounds)
    _, actor = sides[MANY]
    remaining = await actor.call("evict", name="accounts", idle=0.0)
    suite.add_figures("keys", "after all were idle", "actorloom", keys=remaining, mib=actor.resident() / 2**20)


def _state_bytes() -> int:
    """Return the bytes of one key's state: the struct and its strings."""
    account = Account("account-12345", 5, 1)
    return sys.getsizeof(account) + sys.getsizeof(account.account)
