"""Deadlines: what was sent to an actor that does not run now has no effect once its caller has given up."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from runtime.nats.jetstream.client import JetStream
from runtime.wire import header_block
from runtime.wire.subjects import Names
from tests.chaos.actors import Add
from tests.chaos.cell import Result, Setting, cell, measured
from tests.chaos.fleet import paused
from tests.chaos.load import Once
from tests.chaos.servers import Servers

TIMEOUT = 0.5
MARGIN = 0.1
"""Seconds between the look at the deadline and the time that the event carries, at most."""


async def deadlines(setting: Setting) -> Result:
    """Actor and server are stopped (SIGSTOP) for longer than callers wait: nothing that was given up has an effect."""
    result = await late_effects(setting, Result("deadlines", setting.seed))
    result.require(not result.twice, f"{result.twice} commands took effect after their callers had given up")
    return result


async def late_effects(setting: Setting, result: Result, without: Sequence[str] = ()) -> Result:
    """Fill `result`: `twice` counts the effects that nobody waited for any more."""
    rng = setting.rng("deadlines")
    rounds = setting.much(3, 1)
    async with measured(result), Servers(setting.directory) as servers, cell(setting, servers, "deadlines") as here:
        # Longer than it is stopped, so that it goes on with all that waits for it.
        owner = here.start("counter", without=without, lease_ttl=20.0)
        await owner.ready()
        once = Once(here.bus, Add, callers=16, timeout=TIMEOUT)
        once.start()
        [node] = servers.nodes
        for _ in range(rounds):
            await once.reached(100)
            with paused([owner]):
                await asyncio.sleep(TIMEOUT + rng.uniform(0.5, 1.5))
            await once.reached(100)
            servers.pause(node)
            await asyncio.sleep(TIMEOUT + rng.uniform(0.5, 1.5))
            servers.resume(node)
        await once.reached(100)
        await once.stop()
        late = await _late(JetStream(here.connection), Names("counter", here.namespace), once.sent)
        here.complain(result)
    result.load = f"16 callers that wait {TIMEOUT} s, each command sent once"
    result.faults = f"{rounds} SIGSTOP of the actor and {rounds} of the server, longer than that"
    result.twice = sum(seconds > MARGIN for seconds in late)
    result.figures["commands"] = f"{len(once.sent)}, {len(once.sent) - len(once.done)} of them given up"
    result.figures["latest effect, s after its deadline"] = f"{max(late):.3f}"
    result.require(len(once.sent) > len(once.done), "nobody gave up")
    return result


async def _late(jetstream: JetStream, names: Names, until: dict[str, float]) -> list[float]:
    """Return by how many seconds each effect missed its caller's patience (negative: in time)."""
    late: list[float] = []
    async for stored in jetstream.read(names.events_stream, names.event("added", "*")):
        emitted = datetime.fromisoformat(header_block.get(stored.headers, b"ce-time") or "").timestamp()
        late.append(emitted - until[stored.subject.rpartition(".")[2]])
    return late
