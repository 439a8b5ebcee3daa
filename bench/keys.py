"""What does a key cost in memory, do idle ones leave, and does a message cost more when many keys live?"""

import sys

from bench.suite import Suite, exchange
from bench.work import Account

FEW, MANY = 100, 100_000


async def run(suite: Suite) -> None:
    """Bytes a key beyond its state, and turns and reads beside 100 and 100,000 live keys."""
    url = await suite.server()
    sides = {}
    for count in (FEW, MANY):
        space = f"keys{count}"
        actor = await suite.side("own:actor", url=url, namespace=space, name="accounts")
        caller = await suite.side("own:caller", url=url, namespace=space)
        await caller.call("fill", first=0, count=FEW, timeout=60)
        before = actor.resident()
        if count > FEW:
            task = suite.progress.add_task(f"keys, filling {count}", total=count - FEW)
            for first in range(FEW, count, MANY // 10):
                some = min(MANY // 10, count - first)
                await caller.call("fill", first=first, count=some, timeout=180)
                suite.progress.advance(task, some)
            held = await actor.call("keys", name="accounts")
            own = (actor.resident() - before) / (held - FEW) - _state_bytes()
            suite.note("keys", f"{MANY} keys", "actorloom", kib=own / 1024, keys=held)
            suite.note("keys", f"{MANY} keys", "one KiB", kib=1.0)
        sides[count] = caller, actor
    for what, method in (("turns", "deposits"), ("reads", "reads")):
        rounds = {
            f"{count} live keys": exchange(caller, actor, method, in_flight=64, seconds=suite.seconds, keys=count)
            for count, (caller, actor) in sides.items()
        }
        await suite.compare("keys", what, rounds)
    _, actor = sides[MANY]
    left = await actor.call("evict", name="accounts", idle=0.0)
    suite.note("keys", "after all were idle", "actorloom", keys=left, mib=actor.resident() / 2**20)


def _state_bytes() -> int:
    """What one key's state takes: the struct and its own strings."""
    account = Account("account-12345", 5, 1)
    return sys.getsizeof(account) + sys.getsizeof(account.account)
