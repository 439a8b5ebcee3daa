"""Control runs: with one protection taken away, the same account must find what it exists to find."""

from tests.chaos.cell import Result, Setting, cell, measured
from tests.chaos.fleet import until
from tests.chaos.servers import Servers


async def control_deduplication(setting: Setting) -> Result:
    """Without deduplication, kills between commit and reply must make effects happen twice."""
    result = Result("control-deduplication", setting.seed)
    rng = setting.rng("control")
    kills = [f"{point}:{rng.randint(5, 40)}" for point in ("reply.before", "ack.before", "commit.after", "relay.sent")]
    kills = kills[: setting.much(4, 2)]
    async with (
        measured(result),
        Servers(setting.directory) as servers,
        cell(setting, servers, "control", keys=8, callers=8, pause=0.002) as here,
    ):
        workers = [
            here.start(
                "counter", "receipts", kills=[k for k in kills if not k.startswith("ack")], without=["deduplication"]
            ),
            here.start("ledger", kills=[k for k in kills if k.startswith("ack")], without=["deduplication"]),
        ]
        here.load.start()
        for worker in workers:
            wanted = len(worker.program.kills)
            await until(lambda worker=worker, wanted=wanted: len(worker.deaths) >= wanted, 60, "the control's kills")
        await here.load.reached(100)
        verdict = await here.verdict(patience=2.0)
        result.stall = here.load.account.stall
        result.figures["commands"] = here.load.account.commands
    result.load = "8 callers over 8 keys, deduplication off"
    result.faults = f"{len(kills)} kill -9 between commit and answer"
    result.lost, result.twice = verdict.lost, verdict.twice
    result.require(verdict.twice > 0, "deduplication is off, and nothing happened twice: the suite cannot see it")
    return result


async def control_check(setting: Setting) -> Result:
    """Without the sequence check, two owners that race must lose effects."""
    result = Result("control-check", setting.seed)
    async with (
        measured(result),
        Servers(setting.directory) as servers,
        cell(setting, servers, "control", keys=3, callers=16) as here,
    ):
        for _ in range(2):
            here.start("counter", "receipts", without=["lease", "check"])
        here.start("ledger")
        here.load.start()
        await here.load.reached(setting.much(3000, 800))
        verdict = await here.verdict(one_owner=False, patience=2.0)
        result.stall = here.load.account.stall
        result.figures["commands"] = here.load.account.commands
    result.load = "16 callers over 3 keys, two owners, sequence check off"
    result.faults = "two processes that both own all keys"
    result.lost, result.twice = verdict.lost, verdict.twice
    result.require(verdict.lost > 0, "the check is off, and nothing was lost: the suite cannot see it")
    return result
