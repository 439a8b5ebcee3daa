"""Deadlines: a command to a stopped actor has no effect once its caller has given up."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from runtime.nats.jetstream.client import JetStream
from runtime.wire import header_block
from runtime.wire.subjects import Names
from tests.chaos.actors import Add
from tests.chaos.cell import Result, Setting, single_cell
from tests.chaos.fleet import paused
from tests.chaos.load import OneShotLoad

TIMEOUT = 0.5
"""Seconds that callers wait."""

MARGIN = 0.1
"""Longest time in seconds between the check of the deadline and the time in the event."""


async def deadlines(setting: Setting) -> Result:
    """Actor and server are stopped (SIGSTOP) for longer than callers wait; abandoned commands must have no effect."""
    result = Result("deadlines", setting.seed)
    await measure_late_effects(setting, result)
    result.require(not result.twice, f"{result.twice} commands took effect after their callers had given up")
    return result


async def measure_late_effects(setting: Setting, result: Result, without: Sequence[str] = ()) -> None:
    """Fill in `result`. Its `twice` is the number of effects after the deadline of their command."""
    rng = setting.rng("deadlines")
    rounds = setting.size(3, 1)
    async with single_cell(setting, result, "deadlines") as cell:
        # The lease outlasts the stop, so the owner handles all waiting commands afterwards.
        owner = cell.start("counter", without=without, lease_ttl=20.0)
        await owner.ready()
        load = OneShotLoad(cell.bus, Add, callers=16, timeout=TIMEOUT)
        load.start()
        [node] = cell.servers.nodes
        for _ in range(rounds):
            await load.wait_for_more(100)
            with paused([owner]):
                await asyncio.sleep(TIMEOUT + rng.uniform(0.5, 1.5))
            await load.wait_for_more(100)
            cell.servers.pause(node)
            await asyncio.sleep(TIMEOUT + rng.uniform(0.5, 1.5))
            cell.servers.resume(node)
        await load.wait_for_more(100)
        await load.stop()
        lateness = await _lateness(JetStream(cell.connection), Names("counter", cell.namespace), load.sent)
        cell.check_logs(result)
    result.load = f"16 callers that wait {TIMEOUT} s and send each command once"
    result.faults = f"{rounds} SIGSTOP of the actor and {rounds} of the server, for longer than callers wait"
    result.twice = sum(seconds > MARGIN for seconds in lateness)
    result.figures["commands"] = f"{len(load.sent)}, {len(load.sent) - len(load.done)} of them abandoned"
    result.figures["latest effect, s after its deadline"] = f"{max(lateness):.3f}"
    result.require(len(load.sent) > len(load.done), "no caller gave up")


async def _lateness(jetstream: JetStream, names: Names, deadlines: dict[str, float]) -> list[float]:
    """Return the seconds from each deadline to the time of its effect (negative: in time)."""
    lateness: list[float] = []
    async for stored in jetstream.read(names.events_stream, names.event("added", "*")):
        emitted = datetime.fromisoformat(header_block.get(stored.headers, b"ce-time") or "").timestamp()
        lateness.append(emitted - deadlines[stored.subject.rpartition(".")[2]])
    return lateness
