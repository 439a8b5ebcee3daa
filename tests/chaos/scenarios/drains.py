"""SIGTERM under load: processes are replaced one after another, without an error for any caller."""

import time
from statistics import median

from tests.chaos.cell import Result, Setting, single_cell


async def drain(setting: Setting) -> Result:
    """A rolling restart with SIGTERM under load: standbys take over, and every command succeeds at its first attempt."""
    result = Result("drain", setting.seed)
    rounds = setting.size(5, 1)
    handovers: list[float] = []
    load = {"keys": 20, "callers": 16, "patient": 8, "pause": 0.002, "timeout": 5.0}
    async with single_cell(setting, result, "drain", **load) as cell:
        groups = [("counter", "receipts"), ("ledger",)]
        serving = {actors: [cell.start(*actors, lease_ttl=4.0) for _ in range(2)] for actors in groups}
        for workers in serving.values():
            for worker in workers:
                await worker.ready()
        cell.load.start()
        await cell.load.wait_for_more(200)
        outcomes = cell.load.outcomes
        for _ in range(rounds):
            for actors in groups:
                for worker in list(serving[actors]):
                    # The successor is ready first: as the standby, or as the owner if the retiring worker is the standby.
                    successor = cell.start(*actors, lease_ttl=4.0)
                    await successor.ready()
                    outcomes.stall = 0.0
                    begun = time.monotonic()
                    code = await cell.fleet.retire(worker)
                    result.require(code == 0, f"{worker.program.name} ended with {code} after SIGTERM")
                    await cell.load.wait_for_more(50)
                    handovers.append(outcomes.stall)
                    result.figures["slowest drain, s"] = round(
                        max(result.figures.get("slowest drain, s", 0.0), time.monotonic() - begun), 2
                    )
                    serving[actors].remove(worker)
                    serving[actors].append(successor)
        verdict = await cell.verdict()
        outcomes.stall = max(handovers)
        cell.report(result, verdict)
        result.require(outcomes.unknown == 0, f"{outcomes.unknown} attempts of unknown outcome during the restart")
        result.require(outcomes.refused == 0, f"{outcomes.refused} attempts were refused during the restart")
    result.figures["handover, ms (median, longest)"] = f"{median(handovers) * 1000:.0f}, {max(handovers) * 1000:.0f}"
    result.load = "16 callers over 20 keys, half of them with retry()"
    result.faults = f"{len(handovers)} SIGTERM, one process after another"
    result.require_pace(max(handovers) < 1.0, f"a handover took {max(handovers):.2f} s")
    return result
