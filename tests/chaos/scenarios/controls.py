"""Control runs: with one protection taken away, the same account must find what it exists to find."""

from dataclasses import replace

from tests.chaos.cell import Result, Setting, cell, measured
from tests.chaos.fleet import until
from tests.chaos.scenarios.deadlines import late_effects
from tests.chaos.scenarios.poisons import kill_around_dead_letters
from tests.chaos.scenarios.recoveries import look_after, recover
from tests.chaos.scenarios.timers import ring, two_owners
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


async def control_dedup_entries(setting: Setting) -> Result:
    """Without dedup entries, with the list of the record alone, commands that are sent again late must happen twice."""
    result = Result("control-dedup-entries", setting.seed)
    async with (
        measured(result),
        Servers(setting.directory) as servers,
        cell(setting, servers, "control", keys=2, callers=8) as here,
    ):
        here.start("counter", "receipts", without=["dedup-entries"])
        here.start("ledger")
        here.load.start()
        await here.load.reached(1000)
        verdict = await here.verdict(patience=2.0)
        result.figures["commands"] = here.load.account.commands
        result.figures["sent again"] = here.load.account.repeated
    result.load = "8 callers over 2 keys, a tenth of the commands sent again later, the list of 8 alone"
    result.faults = "dedup entries are not looked up"
    result.lost, result.twice = verdict.lost, verdict.twice
    found = verdict.twice + len(here.load.account.unlike)
    result.require(found > 0, "dedup entries are off, and nothing happened twice: the suite cannot see it")
    return result


async def control_reset(setting: Setting) -> Result:
    """Without the reset of consumers, an owner that is killed with events in hand must bring its keys out of order."""
    return await _out_of_order(setting, "reset", "ledger")


async def control_lane(setting: Setting) -> Result:
    """Without the lane of a key that waits for a failing event, those behind it must overtake it."""
    return await _out_of_order(setting, "lane", "receipts")


async def _out_of_order(setting: Setting, switch: str, victim: str) -> Result:
    """Take a protection from the ledger, and kill it, or the receipts that it commands, in the middle of an event."""
    result = Result(f"control-{switch}", setting.seed)
    rng = setting.rng("control")
    kills = [f"handler.after:{rng.randint(10, 30)}" for _ in range(3)]
    async with (
        measured(result),
        Servers(setting.directory) as servers,
        cell(setting, servers, "control", keys=8, callers=8, pause=0.002) as here,
    ):
        here.start("counter")
        workers = {
            "ledger": here.start("ledger", kills=kills if victim == "ledger" else (), without=[switch]),
            "receipts": here.start("receipts", kills=kills if victim == "receipts" else ()),
        }
        here.load.start()
        await until(lambda: len(workers[victim].deaths) >= len(kills), 60, "the control's kills")
        await here.load.reached(200)
        verdict = await here.verdict(patience=2.0)
        result.stall = here.load.account.stall
        result.figures["commands"] = here.load.account.commands
    result.load = f"8 callers over 8 keys, {switch} off"
    result.faults = f"{len(kills)} kill -9 of the {victim} in the middle of an event"
    result.figures["out of order"] = verdict.disorder
    result.lost, result.twice = verdict.lost, verdict.twice
    result.require(verdict.disorder > 0, f"{switch} is off, and nothing is out of order: the suite cannot see it")
    return result


async def control_dead_letters(setting: Setting) -> Result:
    """Where originals are terminated before their dead letters are stored, kills between must lose events."""
    result = await kill_around_dead_letters(
        _brief(setting), Result("control-dead-letters", setting.seed), ["dead-letters-first"]
    )
    result.require(result.lost > 0, "originals go first, and nothing was lost: the suite cannot see it")
    return result


async def control_recovery(setting: Setting) -> Result:
    """Without recovery, what a killed owner had not published must be lost."""
    result = await recover(_brief(setting), Result("control-recovery", setting.seed), ["recovery"], patience=3.0)
    result.require(result.lost > 0, "recovery is off, and nothing was lost: the suite cannot see it")
    return result


async def control_timers(setting: Setting) -> Result:
    """Where a timer takes the place of whatever stands under its name, two owners must lose some, or ring what was replaced."""
    result = await ring(_brief(setting), Result("control-timers", setting.seed), two_owners, ["lease", "standing"])
    result.problems.clear()
    result.require(result.lost + result.twice > 0, "the later timer gives way, and all rang: the suite cannot see it")
    return result


async def control_sweep(setting: Setting) -> Result:
    """Without the look at sequences that are nobody's, what a killed peer had not published must be lost."""
    result = await look_after(_brief(setting), Result("control-sweep", setting.seed), ["sweep"], patience=3.0)
    result.require(result.lost > 0, "the sweep is off, and nothing was lost: the suite cannot see it")
    return result


async def control_deadlines(setting: Setting) -> Result:
    """Without the check of deadlines, commands must take effect that their callers had given up."""
    result = await late_effects(_brief(setting), Result("control-deadlines", setting.seed), ["deadlines"])
    result.require(result.twice > 0, "deadlines are not checked, and nothing came late: the suite cannot see it")
    return result


def _brief(setting: Setting) -> Setting:
    """A control need only fail."""
    return replace(setting, short=True)
