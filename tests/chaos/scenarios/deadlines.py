"""Deadlines: a command to a stopped actor has no effect once its caller has given up, whatever their clocks say."""

import asyncio
import json
import signal
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


ACTOR_SKEW, CALLER_SKEW = -30.0, -10.0
"""Seconds by which the clocks of the actor and of half of the callers are ahead.

An actor whose clock is behind takes old deadlines for valid ones; a caller whose clock is behind sends ones that are over."""


async def deadlines(setting: Setting) -> Result:
    """Actor and server, whose clocks differ, are stopped for longer than callers wait; abandoned commands must have no effect."""
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
        owner = cell.start("counter", without=without, lease_ttl=20.0, skew=ACTOR_SKEW)
        await owner.ready()
        callers = cell.call(TIMEOUT, CALLER_SKEW, without)
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
        callers.signal(signal.SIGTERM)
        await callers.wait(10.0)
        skewed = json.loads(callers.log.read_text().splitlines()[-1])
        sent, done = load.sent | skewed["sent"], load.done | set(skewed["done"])
        wrong = -ACTOR_SKEW if "clocks" in without else 0.0
        lateness = await _lateness(JetStream(cell.connection), Names("counter", cell.namespace), sent, wrong)
        cell.check_logs(result)
    result.load = f"24 callers, 8 of them {-CALLER_SKEW:g} s and the actor {-ACTOR_SKEW:g} s behind, that wait {TIMEOUT} s and send each command once"
    result.faults = f"{rounds} SIGSTOP of the actor and {rounds} of the server, for longer than callers wait"
    result.twice = sum(seconds > MARGIN for seconds in lateness)
    result.figures["commands"] = f"{len(sent)}, {len(sent) - len(done)} of them abandoned"
    result.figures["latest effect, s after its deadline"] = f"{max(lateness):.3f}"
    result.require(len(load.sent) > len(load.done), "no caller gave up")
    result.require(len(skewed["done"]) > 20, f"callers with a wrong clock: {len(skewed['done'])} commands were done")


async def _lateness(jetstream: JetStream, names: Names, deadlines: dict[str, float], wrong: float) -> list[float]:
    """Return the seconds from each deadline to the time of its effect (negative: in time).

    Args:
        jetstream: The client.
        names: The names of the actor.
        deadlines: The deadline of each key, in Unix seconds.
        wrong: Seconds by which the times in the events are behind.
    """
    lateness: list[float] = []
    async for stored in jetstream.read(names.events_stream, names.stored_event("added")):
        emitted = datetime.fromisoformat(header_block.get(stored.headers, b"ce-time") or "").timestamp()
        lateness.append(emitted + wrong - deadlines[stored.subject.rpartition(".")[2]])
    return lateness
