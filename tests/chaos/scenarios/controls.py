"""Control runs: with one safeguard switched off, the audit must find the damage that the safeguard prevents."""

from dataclasses import replace

from tests.chaos.cell import Result, Setting, single_cell
from tests.chaos.scenarios.deadlines import measure_late_effects
from tests.chaos.scenarios.poisons import kill_around_dead_letters, pause_owners
from tests.chaos.scenarios.recoveries import kill_owner, kill_peer
from tests.chaos.scenarios.timers import ring, two_owners


async def control_deduplication(setting: Setting) -> Result:
    """Without deduplication, kills between commit and reply must cause double effects."""
    result = Result("control-deduplication", setting.seed)
    rng = setting.rng("control")
    kills = [f"{point}:{rng.randint(5, 40)}" for point in ("reply.before", "ack.before", "commit.after", "relay.sent")]
    kills = kills[: setting.size(4, 2)]
    async with single_cell(setting, result, "control", keys=8, callers=8, pause=0.002) as cell:
        workers = [
            cell.start(
                "counter", "receipts", kills=[k for k in kills if not k.startswith("ack")], without=["deduplication"]
            ),
            cell.start("ledger", kills=[k for k in kills if k.startswith("ack")], without=["deduplication"]),
        ]
        cell.load.start()
        for worker in workers:
            await worker.killed_as_armed(60)
        await cell.load.wait_for_more(100)
        verdict = await cell.verdict(patience=2.0)
        cell.report_damage(result, verdict)
    result.load = "8 callers over 8 keys, deduplication off"
    result.faults = f"{len(kills)} kill -9 between commit and reply"
    result.require(verdict.twice > 0, _unseen("deduplication is off", "double effects"))
    return result


async def control_check(setting: Setting) -> Result:
    """Without the sequence check, two concurrent owners must lose effects."""
    result = Result("control-check", setting.seed)
    async with single_cell(setting, result, "control", keys=3, callers=16) as cell:
        for _ in range(2):
            cell.start("counter", "receipts", without=["lease", "check"])
        cell.start("ledger")
        cell.load.start()
        await cell.load.wait_for_more(setting.size(3000, 800))
        verdict = await cell.verdict(one_owner=False, patience=2.0)
        cell.report_damage(result, verdict)
    result.load = "16 callers over 3 keys, two owners, sequence check off"
    result.faults = "two processes that both own all keys"
    result.require(verdict.lost > 0, _unseen("the sequence check is off", "lost effects"))
    return result


async def control_dedup_entries(setting: Setting) -> Result:
    """Without dedup entries, and with the list in the record alone, late repetitions must cause double effects."""
    result = Result("control-dedup-entries", setting.seed)
    async with single_cell(setting, result, "control", keys=2, callers=8) as cell:
        cell.start("counter", "receipts", without=["dedup-entries"])
        cell.start("ledger")
        cell.load.start()
        await cell.load.wait_for_more(1000)
        verdict = await cell.verdict(patience=2.0)
        cell.report_damage(result, verdict)
        outcomes = cell.load.outcomes
    result.figures["repeated commands"] = outcomes.repeated
    result.load = "8 callers over 2 keys, a tenth of the commands repeated later, a list of 8 ids in the record"
    result.faults = "dedup entries are not looked up"
    found = verdict.twice + len(outcomes.differing_replies)
    result.require(found > 0, _unseen("dedup entries are off", "double effects"))
    return result


async def control_reset(setting: Setting) -> Result:
    """Without the reset of consumers, a killed owner with events in flight must cause disorder within keys."""
    return await _kill_within_events(setting, "reset", "ledger")


async def control_lane(setting: Setting) -> Result:
    """Without the lane, events must overtake a failing event of their key."""
    return await _kill_within_events(setting, "lane", "receipts")


async def _kill_within_events(setting: Setting, safeguard: str, victim: str) -> Result:
    """Switch off a safeguard of the ledger. Kill it, or the receipts that it commands, while it handles an event."""
    result = Result(f"control-{safeguard}", setting.seed)
    rng = setting.rng("control")
    kills = [f"handler.after:{rng.randint(10, 30)}" for _ in range(3)]
    async with single_cell(setting, result, "control", keys=8, callers=8, pause=0.002) as cell:
        cell.start("counter")
        workers = {
            "ledger": cell.start("ledger", kills=kills if victim == "ledger" else (), without=[safeguard]),
            "receipts": cell.start("receipts", kills=kills if victim == "receipts" else ()),
        }
        cell.load.start()
        await workers[victim].killed_as_armed(60)
        await cell.load.wait_for_more(200)
        verdict = await cell.verdict(patience=2.0)
        cell.report_damage(result, verdict)
    result.load = f"8 callers over 8 keys, {safeguard} off"
    result.faults = f"{len(kills)} kill -9 of the {victim} while an event is handled"
    result.figures["out of order"] = verdict.disorder
    result.require(verdict.disorder > 0, _unseen(f"the {safeguard} is off", "events out of order"))
    return result


async def control_dead_letters(setting: Setting) -> Result:
    """If events are terminated before their dead letters are stored, kills in between must lose events."""
    result = Result("control-dead-letters", setting.seed)
    await kill_around_dead_letters(_short(setting), result, ["dead-letters-first"])
    result.require(result.lost > 0, _unseen("events are terminated first", "lost events"))
    return result


async def control_survival(setting: Setting) -> Result:
    """If no process says that it lives, pauses must cost an innocent event its attempts: it becomes a dead letter."""
    result = Result("control-survival", setting.seed)
    await pause_owners(_short(setting), result, ["survival"])
    found = len(result.problems)
    result.problems.clear()
    result.require(found > 0, _unseen("survival is off", "innocent dead letters"))
    return result


async def control_recovery(setting: Setting) -> Result:
    """Without recovery, the unpublished events of a killed owner must be lost."""
    result = Result("control-recovery", setting.seed)
    await kill_owner(_short(setting), result, ["recovery"], patience=3.0)
    result.require(result.lost > 0, _unseen("recovery is off", "lost events"))
    return result


async def control_timers(setting: Setting) -> Result:
    """If timers are purged without a check of who set them, two owners must lose timers or fire replaced ones."""
    result = Result("control-timers", setting.seed)
    await ring(_short(setting), result, two_owners, ["lease", "timer-check"])
    result.problems.clear()
    result.require(result.lost + result.twice > 0, _unseen("the timer check is off", "lost or extra rings"))
    return result


async def control_sweep(setting: Setting) -> Result:
    """Without the sweep of unaccounted sequences, the unpublished events of a killed peer must be lost."""
    result = Result("control-sweep", setting.seed)
    await kill_peer(_short(setting), result, ["sweep"], patience=3.0)
    result.require(result.lost > 0, _unseen("the sweep is off", "lost events"))
    return result


async def control_deadlines(setting: Setting) -> Result:
    """Without the check of deadlines, commands that their callers gave up must take effect."""
    result = Result("control-deadlines", setting.seed)
    await measure_late_effects(_short(setting), result, ["deadlines"])
    result.require(result.twice > 0, _unseen("deadlines are not checked", "late effects"))
    return result


async def control_clocks(setting: Setting) -> Result:
    """Without the time of the server, commands that their callers gave up must take effect on an actor whose clock is behind."""
    result = Result("control-clocks", setting.seed)
    await measure_late_effects(_short(setting), result, ["clocks"])
    result.problems.clear()
    result.require(result.twice > 0, _unseen("processes go by their own clocks", "late effects"))
    return result


def _short(setting: Setting) -> Setting:
    """Return the short version of a setting: one occurrence of the damage is enough."""
    return replace(setting, short=True)


def _unseen(state: str, damage: str) -> str:
    return f"{state}, but there are no {damage}: the suite cannot detect this fault"
