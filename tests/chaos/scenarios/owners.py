"""Two owners of one key: both at once on purpose, and one that was paused and wakes up."""

import asyncio

from tests.chaos.cell import Result, Setting, cell, measured
from tests.chaos.fleet import paused
from tests.chaos.servers import Servers


async def race(setting: Setting) -> Result:
    """Two processes of each actor own all keys at once: the commits' check alone keeps the sums exact."""
    result = Result("race", setting.seed)
    async with (
        measured(result),
        Servers(setting.directory) as servers,
        cell(setting, servers, "race", keys=3, callers=12) as here,
    ):
        for _ in range(2):
            here.start("counter", "receipts", without=["lease"])
            here.start("ledger", without=["lease"])
        here.load.start()
        await here.load.reached(setting.much(3000, 800), timeout=120)
        here.report(result, await here.verdict(one_owner=False))
    result.load = "12 callers over 3 keys"
    result.faults = "two owners of every key, all the time"
    return result


async def zombie(setting: Setting) -> Result:
    """The owner is stopped past its lease, a standby takes over, and the former owner wakes up in the middle of its turns."""
    result = Result("zombie", setting.seed)
    rng = setting.rng("zombie")
    rounds = setting.much(6, 2)
    async with (
        measured(result),
        Servers(setting.directory) as servers,
        cell(setting, servers, "zombie", keys=6, callers=12) as here,
    ):
        pairs = [[here.start("counter", "receipts") for _ in range(2)], [here.start("ledger") for _ in range(2)]]
        here.load.start()
        await here.load.reached(100)
        for number in range(rounds):
            # Which of the two is the owner is not asked: each is stopped in its turn.
            with paused([pair[number % 2] for pair in pairs]):
                await asyncio.sleep(rng.uniform(2.0, setting.much(4, 3)))
                await here.load.reached(20)
            await here.load.reached(50)
        here.report(result, await here.verdict())
    result.load = "12 callers over 6 keys"
    result.faults = f"{rounds} SIGSTOP of 2 to 4 s past a lease of 1 s, then SIGCONT"
    return result
