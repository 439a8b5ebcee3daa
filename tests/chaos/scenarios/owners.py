"""Two owners of one key: two at the same time, and one that was paused past its lease."""

import asyncio

from tests.chaos.cell import Result, Setting, single_cell
from tests.chaos.fleet import paused


async def race(setting: Setting) -> Result:
    """Two processes of each actor own all keys at the same time; the sequence check alone keeps the sums exact."""
    result = Result("race", setting.seed)
    async with single_cell(setting, result, "race", keys=3, callers=12) as cell:
        for _ in range(2):
            cell.start("counter", "receipts", without=["lease"])
            cell.start("ledger", without=["lease"])
        cell.load.start()
        await cell.load.wait_for_more(setting.size(3000, 800), timeout=120)
        cell.report(result, await cell.verdict(one_owner=False))
    result.load = "12 callers over 3 keys"
    result.faults = "two owners of every key, all the time"
    return result


async def zombie(setting: Setting) -> Result:
    """The owner is stopped past its lease, a standby takes over, and the former owner continues in the middle of its turns."""
    result = Result("zombie", setting.seed)
    rng = setting.rng("zombie")
    rounds = setting.size(6, 2)
    async with single_cell(setting, result, "zombie", keys=6, callers=12) as cell:
        pairs = [[cell.start("counter", "receipts") for _ in range(2)], [cell.start("ledger") for _ in range(2)]]
        cell.load.start()
        await cell.load.wait_for_more(100)
        for number in range(rounds):
            # Each worker of a pair is stopped in turn, so every second stop is that of an owner.
            with paused([pair[number % 2] for pair in pairs]):
                await asyncio.sleep(rng.uniform(2.0, setting.size(4, 3)))
                await cell.load.wait_for_more(20)
            await cell.load.wait_for_more(50)
        cell.report(result, await cell.verdict())
    result.load = "12 callers over 6 keys"
    result.faults = f"{rounds} SIGSTOP of 2 to 4 s past a lease of 1 s, then SIGCONT"
    return result
