"""Three nodes, three replicas: their leaders are killed, stopped and sent away under load."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from tests.chaos.cell import Cell, Result, Scenario, Setting, cell, measured
from tests.chaos.servers import Servers


async def cluster_leaders(setting: Setting) -> Result:
    """kill -9, SIGSTOP and lame duck of the node that leads a stream, one after the other, with three replicas."""
    result = Result("cluster-leaders", setting.seed)
    rng = setting.rng("leaders")
    faults = ["kill", "stop", "lame duck"] * setting.much(2, 1)
    async with _cluster(setting, result, "leaders") as here:
        streams = _streams(here)
        for fault in faults:
            stream = rng.choice(streams[:3])
            node = await here.servers.leader(here.connection, stream)
            setting.say(f"{fault} of the leader of {stream}")
            match fault:
                case "kill":
                    node.kill()
                    await here.load.reached(20, timeout=60)
                    await here.servers.restart(node)
                case "stop":
                    here.servers.pause(node)
                    await here.load.reached(20, timeout=60)
                    await asyncio.sleep(rng.uniform(0, 5))
                    here.servers.resume(node)
                case _:
                    await here.servers.lame_duck(node)
                    await here.load.reached(20, timeout=60)
            await here.servers.healthy(here.connection, streams)
        here.report(result, await here.verdict())
    result.faults = f"{len(faults)} leaders: kill -9, SIGSTOP, lame duck"
    return result


async def cluster_rolling(setting: Setting) -> Result:
    """Every node of the cluster is restarted in its turn (lame duck), as for an upgrade."""
    result = Result("cluster-rolling", setting.seed)
    async with _cluster(setting, result, "rolling") as here:
        for node in here.servers.nodes:
            await here.servers.lame_duck(node)
            await here.servers.healthy(here.connection, _streams(here))
            await here.load.reached(50, timeout=60)
        here.report(result, await here.verdict())
    result.faults = "3 nodes restarted one after the other"
    return result


def on_three_nodes(scenario: Scenario) -> Scenario:
    """Return `scenario` on three nodes with three replicas, of which its kills of the server take one at a time."""

    async def clustered(setting: Setting) -> Result:
        result = await scenario(replace(setting, nodes=3))
        result.name = f"cluster-{result.name}"
        return result

    clustered.__doc__ = f"On three nodes: {scenario.__doc__}"
    return clustered


def _streams(here: Cell) -> list[str]:
    return [
        f"{here.namespace}-{name}" for name in ("counter-turns", "counter-events", "ledger-turns", "receipts-turns")
    ] + [f"KV_{here.namespace}-leases"]


@asynccontextmanager
async def _cluster(setting: Setting, result: Result, namespace: str) -> AsyncIterator[Cell]:
    """Three nodes with two processes of each kind under load: what both scenarios begin with."""
    result.load = "8 callers over 12 keys, two processes of each actor, R3 streams"
    async with (
        measured(result),
        Servers(setting.directory, 3) as servers,
        cell(setting, servers, namespace, keys=12, callers=8, pause=0.005, timeout=3.0) as here,
    ):
        for _ in range(2):
            here.start("counter", "receipts", lease_ttl=4.0)
            here.start("ledger", lease_ttl=4.0)
        here.load.start()
        await here.load.reached(100, timeout=60)
        yield here
