"""kill -9: of a process at every step of a turn, and of processes and the server at random."""

import asyncio
from random import Random

from tests.chaos.cell import Cell, Result, Setting, cell, measured
from tests.chaos.faults import COMMANDED, ONCE, POINTS, REACTING
from tests.chaos.fleet import until
from tests.chaos.servers import Servers


async def steps(setting: Setting) -> Result:
    """Every step of the turn kills its process once or more, in the commanded actor and in the reacting one."""
    result = Result("steps", setting.seed)
    rng = setting.rng("steps")
    rounds = setting.much(2, 1)
    cells = 4
    commanded = [f"{p}:{_times(rng, p)}" for p in POINTS if p in COMMANDED] * rounds
    reacting = [f"{p}:{_times(rng, p)}" for p in POINTS if p in REACTING] * rounds
    rng.shuffle(commanded)
    rng.shuffle(reacting)
    async with measured(result), Servers(setting.directory) as servers:
        deaths = await asyncio.gather(
            *(
                _steps_cell(setting, result, servers, f"steps{n}", commanded[n::cells], reacting[n::cells])
                for n in range(cells)
            )
        )
    result.load = f"{cells} cells of 6 callers over 8 keys"
    result.faults = f"{sum(deaths)} kill -9 at {len(set(POINTS))} points of the turn"
    expected = len(commanded) + len(reacting)
    result.require(sum(deaths) == expected, f"{sum(deaths)} of {expected} armed kills happened")
    return result


def _times(rng: Random, point: str) -> int:
    return 1 if point in ONCE else rng.randint(1, 40)


async def _steps_cell(
    setting: Setting, result: Result, servers: Servers, name: str, commanded: list[str], reacting: list[str]
) -> int:
    async with cell(setting, servers, name, keys=8, callers=6, pause=0.002) as here:
        counter = here.start("counter", "receipts", kills=commanded)
        ledger = here.start("ledger", kills=reacting)
        here.load.start()
        for worker, kills in ((counter, commanded), (ledger, reacting)):
            # Armed lives one after the other; the life after the last armed one goes on.
            wanted = len(kills)
            try:
                await until(
                    lambda worker=worker, wanted=wanted: len(worker.deaths) >= wanted, 60.0 + 6.0 * wanted, name
                )
            except TimeoutError:
                result.problems.append(f"{name}: {worker.program.name}: {worker.armed} was never reached")
        await here.load.reached(50)
        verdict = await here.verdict()
        here.report(result, verdict)
        return here.fleet.deaths


async def random_kills(setting: Setting) -> Result:
    """Processes with a standby, and the server, killed at seeded random moments, sometimes together."""
    result = Result("kills", setting.seed)
    rng = setting.rng("kills")
    seconds = setting.much(45, 6)
    async with (
        measured(result),
        Servers(setting.directory) as servers,
        cell(setting, servers, "kills", keys=20, callers=16) as here,
    ):
        for actors in (("counter",), ("counter", "receipts"), ("ledger", "receipts"), ("ledger",)):
            here.start(*actors)
        here.load.start()
        await here.load.reached(100)
        killed = await kill_at_random(here, rng, seconds, both=True)
        await here.load.reached(100)
        verdict = await here.verdict()
        here.report(result, verdict)
    result.load = "16 callers over 20 keys, as fast as they can"
    result.faults = f"{killed[0]} kill -9 of processes, {killed[1]} of the server"
    return result


async def kill_at_random(here: Cell, rng: Random, seconds: float, *, both: bool = False) -> tuple[int, int]:
    """Kill processes and servers for `seconds`, and until `both` have met it; return how many of each."""
    processes = servers = 0
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end or (both and not (processes and servers)):
        await asyncio.sleep(rng.uniform(0.3, 2.5))
        choice = rng.random()
        if choice < 0.75 or choice > 0.92:
            processes += rng.choice(here.fleet.workers).kill()
        if choice > 0.75:
            await here.servers.restart(rng.choice(here.servers.nodes))
            servers += 1
    return processes, servers
