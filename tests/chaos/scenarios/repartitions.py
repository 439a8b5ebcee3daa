"""Repartitions of the bank, by a tool that is killed at each of its steps, while customers go on."""

import asyncio
import sys

from tests.admin import killed_tool
from tests.chaos.bank_cell import BankCell, open_bank
from tests.chaos.cell import Result, Setting
from tests.chaos.depositors import Crowd
from tests.chaos.fleet import ROOT
from tests.chaos.scenarios.bank import observe

_LAYOUTS = (8, 2, 16, 4, 1)
"""Numbers of partitions, one after another. The last one is that of the books, since the audit reads both with one number."""
_UNDOING = "undoing"
_STEPS = (
    ("reading", "closing", "moving"),
    ("creating the new streams", _UNDOING, "copying", "deleting"),
    ("creating consumers", _UNDOING, "comparing", "moving"),
    ("switching", _UNDOING, "closing", "deleting"),
    ("copying", _UNDOING, "switching", "moving"),
)
"""For each layout, the steps at which one tool after another is killed, by the beginnings of their reports."""
_REQUESTS = 60
"""Requests of the tool. At a random one of them it is killed as well, before it has switched."""


async def repartitions(setting: Setting) -> Result:
    """The bank is stopped, repartitioned by a tool that is killed at each of its steps, and started, while customers go on."""
    result = Result("repartitions", setting.seed)
    rng = setting.rng("repartitions")
    rounds = list(zip(_LAYOUTS, _STEPS, strict=True))[:: setting.size(1, 4)]
    killed = 0
    async with open_bank(setting, result, "repart", crowd=Crowd(hasty=0, waiters=0)) as bank:
        for number, steps in rounds:
            setting.progress(f"{bank.cell.partitions} -> {number} partitions")
            await asyncio.gather(*(bank.cell.fleet.retire(worker) for worker in bank.banks))
            bank.banks.clear()
            killed += await _kill(bank, number, "request", rng.randrange(_REQUESTS))
            for step in steps:
                hit = await _kill(bank, number, step)
                killed += hit
                result.require(
                    hit, f"{bank.cell.partitions} -> {number} partitions: the tool was not killed at {step!r}"
                )
            await _finish(bank, number)
            for _ in range(2):
                await bank.start_bank().ready()
            await observe(bank, 1.0)
        await bank.finish(result, 120.0)
    steps = {step for _, steps in rounds for step in steps}
    result.load = "6 holders, who wait for the bank, 6 readers, a lister"
    result.faults = (
        f"{len(rounds)} repartitions, {killed} kill -9 of the tool at {len(steps)} steps and at random requests"
    )
    return result


async def _kill(bank: BankCell, number: int, what: str, passed: int = 0) -> bool:
    """Run the tool until it kills itself; see `tests.admin.killed_tool.kill`."""
    return await killed_tool.kill(bank.servers.url, bank.cell.namespace, "bank", number, what, passed, lease_ttl=1.0)


async def _finish(bank: BankCell, number: int) -> None:
    """Run the command that stores the bank in so many partitions."""
    command = ("repartition", "bank", str(number), "--nats", bank.servers.url, "--namespace", bank.cell.namespace)
    tool = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "runtime", *command, "--lease-ttl", "1",
        cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await tool.communicate()
    if tool.returncode:
        raise RuntimeError(f"the tool ended with {tool.returncode}: {output.decode()[-800:]}")
    bank.cell.partitions = number
