"""SIGTERM under load: processes are replaced one after the other, and no caller notices."""

import time
from statistics import median

from tests.chaos.cell import Result, Setting, cell, measured
from tests.chaos.servers import Servers


async def drain(setting: Setting) -> Result:
    """Rolling restart with SIGTERM under load: standbys take over, and every command succeeds at once."""
    result = Result("drain", setting.seed)
    rounds = setting.much(5, 1)
    hands: list[float] = []
    async with (
        measured(result),
        Servers(setting.directory) as servers,
        cell(setting, servers, "drain", keys=20, callers=16, patient=8, pause=0.002, timeout=5.0) as here,
    ):
        groups = [("counter", "receipts"), ("ledger",)]
        serving = {actors: [here.start(*actors, lease_ttl=4.0) for _ in range(2)] for actors in groups}
        for workers in serving.values():
            for worker in workers:
                await worker.ready()
        here.load.start()
        await here.load.reached(200)
        account = here.load.account
        for _ in range(rounds):
            for actors in groups:
                for worker in list(serving[actors]):
                    # The successor is there before: it stands by, or serves when the other was the standby.
                    successor = here.start(*actors, lease_ttl=4.0)
                    await successor.ready()
                    account.stall = 0.0
                    begun = time.monotonic()
                    code = await here.fleet.retire(worker)
                    result.require(code == 0, f"{worker.program.name} ended with {code} after SIGTERM")
                    await here.load.reached(50)
                    hands.append(account.stall)
                    result.figures["slowest drain, s"] = round(
                        max(result.figures.get("slowest drain, s", 0.0), time.monotonic() - begun), 2
                    )
                    serving[actors].remove(worker)
                    serving[actors].append(successor)
        verdict = await here.verdict()
        account.stall = max(hands)
        here.report(result, verdict)
        result.require(account.unknown == 0, f"{account.unknown} attempts of unknown outcome in an orderly restart")
        result.require(account.refused == 0, f"{account.refused} times a caller was told that nobody is there")
    result.figures["hand-over, ms (median, longest)"] = f"{median(hands) * 1000:.0f}, {max(hands) * 1000:.0f}"
    result.load = "16 callers over 20 keys, half of them by retry()"
    result.faults = f"{len(hands)} SIGTERM, one process after the other"
    result.require(max(hands) < 1.0, f"a hand-over took {max(hands):.2f} s")
    return result
