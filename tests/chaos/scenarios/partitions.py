"""The bank in eight partitions, which several processes share: nothing is lost, twice or stale, whichever of them fails."""

import asyncio
import random
import signal
from typing import Any

from tests.chaos.bank_cell import BANK, BankCell, open_bank
from tests.chaos.cell import Result, Setting
from tests.chaos.depositors import Crowd
from tests.chaos.fleet import Worker, paused, until
from tests.chaos.scenarios.bank import LOAD, cut_owners, observe

PARTITIONS = 8
_FAULTS = ("kill", "kill", "stop", "block", "terminate", "terminate", "server")
_STRANGERS: list[tuple[dict[str, Any], str]] = [
    ({"older": True}, "is needed; change it by hand"),
    ({"partitions": 4}, "actorloom repartition bank 4"),
    ({"partitions": 1}, "actorloom repartition bank 1"),
]
"""Options of members that must be refused, each with a part of the error."""
_CLUSTER_BOUND = 30.0
"""Those on a cluster."""
_BOUND = 12.0
"""Seconds that an operation may wait: two leases in a row, and the start of processes."""


async def partitions(setting: Setting) -> Result:
    """Three processes share eight partitions. One at a time is killed, stopped, blocked or drained, and the server is killed."""
    result = Result("partitions", setting.seed)
    rng = setting.rng("partitions")
    faults = [*_FAULTS, *(rng.choice(_FAULTS) for _ in range(9))][:: setting.size(1, 4)]
    async with open_bank(setting, result, "parts", banks=[{}] * 3, partitions=PARTITIONS) as bank:
        for fault in faults:
            bank.depositors.burst(rng.choice((0.02, 0.1)))
            await asyncio.sleep(rng.uniform(0.01, 0.05))
            await _cause(bank, await bank.owner(rng.randrange(PARTITIONS)), fault, rng)
            await observe(bank, rng.uniform(0.3, 2.0))
        await bank.finish(result, _bound(setting))
    result.load = LOAD
    result.faults = f"{len(faults)} faults: " + ", ".join(f"{faults.count(one)} {one}" for one in sorted(set(faults)))
    return result


async def partitions_churn(setting: Setting) -> Result:
    """Members join and leave all the time, some of them by SIGKILL; at most five share the partitions."""
    result = Result("partitions-churn", setting.seed)
    rng = setting.rng("partitions-churn")
    joined = left = killed = 0
    async with open_bank(setting, result, "churn", banks=[{}] * 2, partitions=PARTITIONS) as bank:
        for _ in range(setting.size(24, 4)):
            members = [worker for worker in bank.banks if worker.alive and not worker.stopping]
            bank.depositors.burst(0.05)
            if len(members) < 5 and (len(members) < 2 or rng.random() < 0.5):
                joined += 1
                await bank.start_bank().ready()
            elif rng.random() < 0.7:
                left += 1
                await bank.cell.fleet.retire(rng.choice(members))
            else:
                killed += 1
                await bank.cell.fleet.retire(rng.choice(members), signal.SIGKILL)
            await observe(bank, rng.uniform(0.0, 0.5))
        await bank.finish(result, _bound(setting))
    result.load = LOAD
    result.faults = f"{joined} members joined, {left} left, {killed} were killed"
    return result


async def partitions_rolling(setting: Setting) -> Result:
    """Each of four members is replaced in turn, twice: no command fails, and no moved partition waits for long."""
    result = Result("partitions-rolling", setting.seed)
    crowd = Crowd(hasty=0, timeout=5.0)  # who do not give up while a partition moves
    async with open_bank(setting, result, "rolling", crowd=crowd, banks=[{}] * 4, partitions=PARTITIONS) as bank:
        for worker in list(bank.banks):
            await worker.ready()
        marks = bank.marks()
        for worker in list(bank.banks)[: setting.size(4, 2)] * setting.size(2, 1):
            lives = len(worker.exit_codes)
            worker.signal(signal.SIGTERM)
            await until(lambda lives=lives, worker=worker: len(worker.exit_codes) > lives, 60, "the end of a member")
            await worker.ready()
            await observe(bank, 0.3)
        bank.require_clean(result, marks, "the replacement of all members")
        await bank.finish(result, _bound(setting))
    result.load = LOAD
    result.faults = f"{setting.size(8, 2)} SIGTERM of members, one after another"
    return result


async def partitions_views(setting: Setting) -> Result:
    """Two of three members believe that they are alone, and want all partitions; the leases decide."""
    result = Result("partitions-views", setting.seed)
    rng = setting.rng("partitions-views")
    alone = {"without": ["membership"]}
    async with open_bank(setting, result, "views", banks=[{}, alone, alone], partitions=PARTITIONS) as bank:
        for _ in range(setting.size(8, 2)):
            bank.depositors.burst(0.05)
            worker = await bank.owner(rng.randrange(PARTITIONS))
            await _cause(bank, worker, rng.choice(("kill", "terminate", "stop")), rng)
            await observe(bank, rng.uniform(0.5, 1.5))
        await bank.finish(result, _bound(setting))
    result.load = LOAD
    result.faults = f"two members that know no other one; {setting.size(8, 2)} kills, SIGTERM and SIGSTOP of owners"
    return result


async def partitions_cuts(setting: Setting) -> Result:
    """The network of one of three owners drops all packets in one direction, or both (network namespaces; needs root)."""
    result = Result("partitions-cuts", setting.seed)
    await cut_owners(setting, result, "partcuts", processes=3, partitions=PARTITIONS)
    return result


async def partitions_strangers(setting: Setting) -> Result:
    """Members of an earlier version, and with other numbers of partitions, start beside three members, and are refused."""
    result = Result("partitions-strangers", setting.seed)
    rng = setting.rng("partitions-strangers")
    crowd = Crowd(hasty=0, timeout=5.0)  # who do not give up while a partition moves
    strangers = _STRANGERS * setting.size(2, 1)
    async with open_bank(setting, result, "strangers", crowd=crowd, banks=[{}] * 3, partitions=PARTITIONS) as bank:
        for worker in bank.banks:
            await worker.ready()
        marks = bank.marks()
        for options, text in strangers:
            stranger = bank.cell.start(BANK, keep=False, **options)
            bank.depositors.burst(0.05)
            (await bank.owner(rng.randrange(PARTITIONS))).signal(signal.SIGTERM)
            await observe(bank, rng.uniform(0.2, 0.5))
            code, log = await stranger.wait(60), stranger.log.read_text()
            result.require(code == 1 and text in log, f"a stranger ({options}) has ended with {code}: {log[-500:]}")
            bank.cell.fleet.forget(stranger)
        bank.require_clean(result, marks, "the starts of strangers")
        await bank.finish(result, _bound(setting))
    result.load = LOAD
    result.faults = f"{len(strangers)} starts of members of an earlier version, or with another layout, each beside a SIGTERM of an owner"
    return result


async def _cause(bank: BankCell, worker: Worker, fault: str, rng: random.Random) -> None:
    """Cause a fault of a member, or of the server."""
    match fault:
        case "kill":
            worker.kill()
        case "stop":
            with paused([worker]):
                await asyncio.sleep(rng.uniform(2.2, 3.4))
        case "block":
            bank.depositors.burst(0.0, block=rng.uniform(2.2, 3.4), process=worker.pid)
        case "terminate":
            worker.signal(signal.SIGTERM)
        case _:
            await bank.servers.restart(rng.choice(bank.servers.nodes))


def _bound(setting: Setting) -> float:
    """Return the seconds that an operation may wait. A cluster elects leaders of streams after the kill of a node."""
    return _BOUND if setting.nodes == 1 else _CLUSTER_BOUND
