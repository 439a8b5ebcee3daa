"""SIGKILL of a process at every step of a turn, and of processes and the server at random moments."""

import asyncio
from random import Random

from tests.chaos.cell import Cell, Result, Setting, open_cell, single_cell, timed
from tests.chaos.faults import COMMANDED, POINTS, REACTING, occurrence
from tests.chaos.servers import Servers


async def steps(setting: Setting) -> Result:
    """A process is killed at every step of a turn, in an actor with commands and in one with reactions."""
    result = Result("steps", setting.seed)
    rng = setting.rng("steps")
    rounds = setting.size(2, 1)
    cells = 4
    commanded = [f"{p}:{occurrence(rng, p, actors=2)}" for p in POINTS if p in COMMANDED] * rounds
    reacting = [f"{p}:{occurrence(rng, p, actors=1)}" for p in POINTS if p in REACTING] * rounds
    rng.shuffle(commanded)
    rng.shuffle(reacting)
    async with timed(result), Servers(setting.directory) as servers:
        kills = await asyncio.gather(
            *(
                _run_steps(setting, result, servers, f"steps{n}", commanded[n::cells], reacting[n::cells])
                for n in range(cells)
            )
        )
    result.load = f"{cells} cells of 6 callers over 8 keys"
    result.faults = f"{sum(kills)} kill -9 at {len(set(POINTS))} points of the turn"
    expected = len(commanded) + len(reacting)
    result.require(sum(kills) == expected, f"{sum(kills)} of {expected} armed kills happened")
    return result


async def _run_steps(
    setting: Setting, result: Result, servers: Servers, name: str, commanded: list[str], reacting: list[str]
) -> int:
    async with open_cell(setting, servers, name, keys=8, callers=6, pause=0.002) as cell:
        counter = cell.start("counter", "receipts", kills=commanded)
        ledger = cell.start("ledger", kills=reacting)
        cell.load.start()
        for worker, kills in ((counter, commanded), (ledger, reacting)):
            try:
                await worker.killed_as_armed(60.0 + 6.0 * len(kills))
            except TimeoutError:
                result.problems.append(f"{name}: {worker.program.name}: {worker.armed} was never reached")
        await cell.load.wait_for_more(50)
        verdict = await cell.verdict()
        cell.report(result, verdict)
        return cell.fleet.kills


async def random_kills(setting: Setting) -> Result:
    """Processes with a standby and the server are killed at random moments, sometimes together."""
    result = Result("kills", setting.seed)
    rng = setting.rng("kills")
    seconds = setting.size(45, 6)
    async with single_cell(setting, result, "kills", keys=20, callers=16) as cell:
        for actors in (("counter",), ("counter", "receipts"), ("ledger", "receipts"), ("ledger",)):
            cell.start(*actors)
        cell.load.start()
        await cell.load.wait_for_more(100)
        killed = await kill_at_random(cell, rng, seconds, both=True)
        await cell.load.wait_for_more(100)
        verdict = await cell.verdict()
        cell.report(result, verdict)
    result.load = "16 callers over 20 keys, without pauses"
    result.faults = f"{killed[0]} kill -9 of processes, {killed[1]} of the server"
    return result


async def kill_at_random(cell: Cell, rng: Random, seconds: float, *, both: bool = False) -> tuple[int, int]:
    """Kill processes and servers at random moments for `seconds`.

    With `both`, go on until at least one process and one server were killed.

    Returns:
        The numbers of killed processes and servers.
    """
    processes = servers = 0
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end or (both and not (processes and servers)):
        await asyncio.sleep(rng.uniform(0.3, 2.5))
        choice = rng.random()
        if choice < 0.75 or choice > 0.92:
            processes += rng.choice(cell.fleet.workers).kill()
        if choice > 0.75:
            await cell.servers.restart(rng.choice(cell.servers.nodes))
            servers += 1
    return processes, servers
