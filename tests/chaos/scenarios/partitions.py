"""The bank in eight partitions, which several processes share: nothing is lost, twice or stale, whichever of them fails."""

import asyncio
import random
import signal
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import replace

from tests.chaos.bank_cell import BankCell, open_bank
from tests.chaos.cell import Result, Setting, timed
from tests.chaos.depositors import Crowd
from tests.chaos.fleet import ROOT, Worker, paused
from tests.chaos.namespaces import Namespace, unavailable
from tests.chaos.scenarios.bank import LOAD, observe
from tests.chaos.servers import Servers

PARTITIONS = 8
_FAULTS = ("kill", "kill", "stop", "block", "terminate", "terminate", "server")
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
        await bank.finish(result, _BOUND)
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
        await bank.finish(result, _BOUND)
    result.load = LOAD
    result.faults = f"{joined} members joined, {left} left, {killed} were killed"
    return result


async def partitions_rolling(setting: Setting) -> Result:
    """Each of four members is replaced in turn, twice: no command fails, and no moved partition waits for long."""
    result = Result("partitions-rolling", setting.seed)
    crowd = Crowd(hasty=0)  # who would give up after 0.3 s
    async with open_bank(setting, result, "rolling", crowd=crowd, banks=[{}] * 4, partitions=PARTITIONS) as bank:
        for worker in list(bank.banks):
            await worker.ready()
        unknown = bank.history.unknown
        for worker in list(bank.banks)[: setting.size(4, 2)] * setting.size(2, 1):
            lives = len(worker.exit_codes)
            worker.signal(signal.SIGTERM)
            while len(worker.exit_codes) == lives:
                await asyncio.sleep(0.02)
            await worker.ready()
            await observe(bank, 0.3)
        result.require(
            bank.history.unknown == unknown, f"{bank.history.unknown - unknown} attempts had an unknown outcome"
        )
        await bank.finish(result, _BOUND)
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
        await bank.finish(result, _BOUND)
    result.load = LOAD
    result.faults = f"two members that know no other one; {setting.size(8, 2)} kills, SIGTERM and SIGSTOP of owners"
    return result


async def partitions_cuts(setting: Setting) -> Result:
    """The network of one of three owners drops all packets in one direction, or both (network namespaces; needs root)."""
    result = Result("partitions-cuts", setting.seed)
    result.load = LOAD
    if reason := unavailable():
        result.faults = f"SKIPPED: no network namespaces here ({reason})"
        return result
    rng = setting.rng("partitions-cuts")
    cuts = [("out",), ("in",), ("out", "in")] * setting.size(2, 1)
    async with timed(result), Servers(setting.directory) as servers, AsyncExitStack() as stack:
        spaces = [await stack.enter_async_context(Namespace(servers.nodes[0].port)) for _ in range(3)]
        inside = [{"url": space.url, "inside": space.inside, "ping": 5.0, "tick": 1.0} for space in spaces]
        bank = await stack.enter_async_context(
            open_bank(setting, result, "partcuts", servers=servers, banks=inside, partitions=PARTITIONS)
        )
        for directions in cuts:
            space = spaces[bank.banks.index(await bank.owner(rng.randrange(PARTITIONS)))]
            bank.depositors.burst(0.08)
            await asyncio.sleep(rng.uniform(0.015, 0.025))
            await space.cut(*directions)
            await asyncio.sleep(rng.uniform(2.0, 3.5))
            await space.heal()
            await observe(bank, rng.uniform(4.0, 6.0))
        await bank.finish(result, 15.0)
    result.faults = f"{len(cuts)} cuts of one of three owners for 2 to 3.5 s: to the server, from it, and both"
    return result


async def repartitions(setting: Setting) -> Result:
    """The bank is stopped, repartitioned by a tool that is killed again and again, and started, while customers go on."""
    result = Result("repartitions", setting.seed)
    rng = setting.rng("repartitions")
    killed = 0
    layouts = [8, 1, 4, 16, 2][: setting.size(5, 2)]
    async with open_bank(setting, result, "repart", crowd=Crowd(hasty=0, waiters=0)) as bank:
        for number in layouts:
            setting.progress(f"{bank.cell.partitions} -> {number} partitions")
            await asyncio.gather(*(bank.cell.fleet.retire(worker) for worker in bank.banks))
            bank.banks.clear()
            for _ in range(setting.size(6, 2)):
                tool = await _repartition(bank, number)
                try:
                    await asyncio.wait_for(tool.wait(), rng.uniform(0.2, 1.5))
                except TimeoutError:
                    killed += 1
                    tool.kill()
                    await tool.wait()
            tool = await _repartition(bank, number)
            output, _ = await tool.communicate()
            if tool.returncode:
                raise RuntimeError(f"the tool ended with {tool.returncode}: {output.decode()[-800:]}")
            bank.cell.partitions = number
            for _ in range(2):
                await bank.start_bank().ready()
            await observe(bank, 1.0)
        await bank.finish(result, 120.0)
    result.load = "6 holders, who wait for the bank, 8 readers, a lister"
    result.faults = f"{len(layouts)} repartitions, {killed} kill -9 of the tool"
    return result


async def _repartition(bank: BankCell, number: int) -> asyncio.subprocess.Process:
    """Start the tool that stores the bank in so many partitions."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "runtime", "repartition", "bank", str(number), "--nats", bank.servers.url,
        "--namespace", bank.cell.namespace, "--lease-ttl", "1",
        cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


async def control_placement(setting: Setting) -> Result:
    """If two members own all partitions without leases, answers must be stale."""
    result = Result("control-placement", setting.seed)
    off = ["membership", "lease", "fence", "copies"]
    await _both_own_all(setting, result, off)
    stale = result.stale
    result.problems.clear()
    result.faults = f"{', '.join(off)} off: two owners of all partitions"
    result.require(stale > 0, "two members own all partitions, but no answer is stale: the suite cannot see it")
    return result


async def _both_own_all(setting: Setting, result: Result, off: Iterable[str]) -> None:
    short = replace(setting, short=True)
    async with open_bank(short, result, "placement", without=off, partitions=PARTITIONS) as bank:
        await observe(bank, 3.0)
        await bank.finish(result, 60.0)
    result.load = LOAD


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
