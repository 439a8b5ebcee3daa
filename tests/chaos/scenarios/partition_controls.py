"""Control runs of partitions: with safeguards switched off, stale answers must be seen."""

from dataclasses import replace

from tests.chaos.bank_cell import open_bank
from tests.chaos.cell import Result, Setting
from tests.chaos.scenarios.bank import LOAD, observe
from tests.chaos.scenarios.partitions import PARTITIONS


async def control_placement(setting: Setting) -> Result:
    """If two members own all partitions without leases, answers must be stale."""
    result = Result("control-placement", setting.seed)
    off = ["membership", "lease", "fence", "copies"]
    async with open_bank(replace(setting, short=True), result, "placement", without=off, partitions=PARTITIONS) as bank:
        await observe(bank, 3.0)
        await bank.finish(result, 60.0)
    result.problems.clear()
    result.load = LOAD
    result.faults = f"{', '.join(off)} off: two owners of all partitions"
    result.require(result.stale > 0, "two members own all partitions, but no answer is stale: the suite cannot see it")
    return result


async def control_lists(setting: Setting) -> Result:
    """If a list leaves a partition out that does not answer, accounts must be missing."""
    result = Result("control-lists", setting.seed)
    rng = setting.rng("control-lists")
    kills = 2
    async with open_bank(
        replace(setting, short=True), result, "lists", banks=[{}] * 3, without=["whole-lists"], partitions=PARTITIONS
    ) as bank:
        for _ in range(kills):
            (await bank.owner(rng.randrange(PARTITIONS))).kill()
            await observe(bank, 2.0)
        await bank.finish(result, 60.0)
    missing = bank.history.stale_lists
    result.problems.clear()
    result.load = LOAD
    result.faults = f"whole-lists off: {kills} kill -9 of owners; {missing} accounts missing"
    result.require(missing > 0, "lists leave partitions out, but no account is missing: the suite cannot see it")
    return result
