"""Commands by `tell` during faults: each takes effect once, and in the order of its sender."""

import asyncio
import time
from random import Random
from typing import Any

from runtime import Command, RequestError
from runtime.wire.ids import new_id
from tests.chaos.audit import StoreReader
from tests.chaos.cell import Cell, Result, Setting, single_cell
from tests.chaos.fleet import Worker
from tests.chaos.scenarios.kills import kill_at_random
from tests.chaos.scenarios.timers import move
from tests.chaos.tellers import Notes, Write, Written

TELLERS, BOXES = "tests.chaos.tellers:Tellers", "tests.chaos.tellers:Boxes"
PARTITIONS = 8
LATER = 1_000_000
"""The first number of a command that is due later."""
PATIENCE = 30.0
"""Seconds after the faults within which all commands must have arrived."""


async def tells(setting: Setting) -> Result:
    """Commands are told while sender, receiver and server are killed. The receiver runs for the first time when many of them wait."""
    return await _tell(setting, Result("tells", setting.seed))


async def partition_tells(setting: Setting) -> Result:
    """The same between partitions of three processes that are killed, stopped and drained, as is the server."""
    return await _tell(setting, Result("partition-tells", setting.seed), PARTITIONS)


async def _tell(setting: Setting, result: Result, partitions: int = 1) -> Result:
    rng = setting.rng("tells")
    seconds, tellers, boxes = setting.size(20, 6), setting.size(12, 4), setting.size(6, 3)
    async with single_cell(setting, result, "tells") as cell:
        cell.partitions = partitions
        count = 2 if partitions == 1 else 3
        workers = [cell.start(TELLERS) for _ in range(count)]
        await workers[-1].ready()
        end = time.monotonic() + seconds
        work = asyncio.gather(*(_teller(cell, f"t{n}", boxes, Random(rng.random()), end) for n in range(tellers)))
        first = await _faults(cell, workers, rng, seconds / 3, partitions)
        workers += [cell.start(BOXES) for _ in range(count)]
        result.faults = f"{first}; after the first start of the receivers {await _faults(cell, workers, rng, seconds * 2 / 3, partitions)}"
        later = sum(await work)
        await _compare(cell, result, tellers, boxes, later)
        cell.check_logs(result)
    result.load = f"{tellers} tellers, {boxes} boxes"
    return result


async def _faults(cell: Cell, workers: list[Worker], rng: Random, seconds: float, partitions: int) -> str:
    if partitions > 1:
        return await move(cell, workers, rng, seconds)
    processes, servers = await kill_at_random(cell, rng, seconds)
    return f"{processes} kill -9 of processes, {servers} of the server"


async def _teller(cell: Cell, teller: str, boxes: int, rng: Random, end: float) -> int:
    """Have one teller write slips until `end`, each under one id until it is written. Return how many were due later."""
    later = 0
    while time.monotonic() < end:
        box = f"b{rng.randrange(boxes)}"
        if rng.random() < 0.1:
            later += 1
            await _send(cell, Write(teller, box, rng.uniform(0.1, 3.0), LATER + later))
        else:
            await _send(cell, Write(teller, box))
        await asyncio.sleep(rng.uniform(0.0, 0.05))
    return later


async def _send(cell: Cell, message: Command[Any]) -> Any:
    command_id = new_id()
    while True:
        try:
            return await cell.bus.command(message, id=command_id, timeout=1.5)
        except RequestError:
            await asyncio.sleep(0.05)


async def _compare(cell: Cell, result: Result, tellers: int, boxes: int, later: int) -> None:
    """Wait until all that was told has arrived, and compare it."""
    store = StoreReader(cell.connection, cell.namespace, cell.partitions)
    told = {f"t{n}": (await store.state("tellers", Written, f"t{n}")).told for n in range(tellers)}
    expected = sum(sum(each.values()) for each in told.values()) + later
    end = time.monotonic() + PATIENCE
    while True:
        notes = {f"b{n}": (await store.state("boxes", Notes, f"b{n}")).noted for n in range(boxes)}
        found = sum(len(numbers) for noted in notes.values() for numbers in noted.values())
        if found >= expected or time.monotonic() > end:
            break
        await asyncio.sleep(0.1)
    for teller, counts in told.items():
        timed: list[int] = []
        for box, noted in notes.items():
            numbers = noted.get(teller, ())
            timed += [number for number in numbers if number > LATER]
            now = [number for number in numbers if number < LATER]
            wanted = range(1, counts.get(box, 0) + 1)
            result.lost += len(set(wanted) - set(now))
            result.twice += len(now) - len(set(now))
            if now != [*wanted]:
                result.problems.append(f"{teller} has told {box} {len(wanted)} numbers, and it has noted {_shown(now)}")
        result.twice += len(timed) - len(set(timed))
    result.require(found == expected, f"{expected} commands were told, and {found} noted")
    result.lost += max(expected - found - result.lost, 0)
    result.figures["told"] = expected
    result.figures["of them due later"] = later


def _shown(numbers: list[int]) -> str:
    """Return the first number that is out of place, with those around it."""
    wrong = next((at for at, number in enumerate(numbers, 1) if at != number), len(numbers))
    return f"{len(numbers)}: … {numbers[max(wrong - 3, 0) : wrong + 3]} …"
