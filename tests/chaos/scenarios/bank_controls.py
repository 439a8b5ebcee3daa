"""Control runs of the bank: with one safeguard switched off, stale answers must be seen, or money made of nothing."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from tests.chaos.cell import Result, Setting
from tests.chaos.scenarios.bank import hold_commits, pause_owners, suspend_owners
from tests.chaos.scenarios.bank_storage import delete_leases, refuse_commits

Faults = Callable[[Setting, Result, Iterable[str]], Awaitable[None]]


async def control_bank_fence(setting: Setting) -> Result:
    """Without the fence, and if copies do not learn either, a commit held up past a take-over must leave stale answers."""
    return await _stale(setting, "control-bank-fence", hold_commits, ["fence", "copies"])


async def control_bank_owns(setting: Setting) -> Result:
    """If the fence is off and the lease is not asked for before commits and answers, a paused owner must cause stale answers."""
    return await _stale(setting, "control-bank-owns", pause_owners, ["fence", "owns"])


async def control_bank_lease(setting: Setting) -> Result:
    """Without the wait after the deletion of a lease, two owners must answer, one of them with stale states."""

    async def faults(setting: Setting, result: Result, without: Iterable[str]) -> None:
        await delete_leases(setting, result, without, lease_ttl=4.0)

    return await _stale(setting, "control-bank-lease", faults, ["lease-wait"])


async def control_bank_clock(setting: Setting) -> Result:
    """With a clock that stands still while the machine is suspended, the former owner must give stale answers."""
    return await _stale(setting, "control-bank-clock", suspend_owners, ["suspended-clock"])


async def control_bank_effects(setting: Setting) -> Result:
    """If nested commands leave before the state that they rest on is stored, money must be made of nothing."""
    result = Result("control-bank-effects", setting.seed)
    await refuse_commits(replace(setting, short=True), result, ["stored-effects"])
    seen = any("made of nothing" in problem for problem in result.problems)
    made = result.figures["made of nothing, executed although refused"].partition(",")[0]
    result.faults = f"stored-effects off: {result.faults}; {made} made of nothing"
    result.problems.clear()
    result.require(seen, "nested commands leave early, but no money was made: the suite cannot detect this fault")
    return result


async def _stale(setting: Setting, name: str, faults: Faults, without: list[str]) -> Result:
    """Run the faults with safeguards switched off, up to three times, and require stale answers instead of none."""
    for number in range(3):
        result = Result(name, setting.seed)
        directory = setting.directory / str(number)
        directory.mkdir()
        await faults(replace(setting, short=True, seed=setting.seed + number, directory=directory), result, without)
        result.problems.clear()
        result.faults = f"{' and '.join(without)} off: {result.faults}"
        if result.stale:
            return result
    result.problems.append(f"{' and '.join(without)} off, but no answer is stale: the suite cannot detect this fault")
    return result
