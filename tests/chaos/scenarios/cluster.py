"""A cluster of three nodes with three replicas: leaders are killed, stopped and shut down, and processes start meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from tests.chaos.cell import Cell, Result, Scenario, Setting, open_cell, single_cell, timed
from tests.chaos.servers import Servers


async def cluster_leaders(setting: Setting) -> Result:
    """The leader of a stream is killed, stopped (SIGSTOP), or shut down in lame duck mode, again and again."""
    result = Result("cluster-leaders", setting.seed)
    rng = setting.rng("leaders")
    faults = ["kill", "stop", "lame duck"] * setting.size(2, 1)
    async with _cluster(setting, result, "leaders") as cell:
        streams = _streams(cell)
        for fault in faults:
            stream = rng.choice(streams[:3])
            node = await cell.servers.leader(cell.connection, stream)
            setting.progress(f"{fault} of the leader of {stream}")
            match fault:
                case "kill":
                    node.kill()
                    await cell.load.wait_for_more(20, timeout=60)
                    await cell.servers.restart(node)
                case "stop":
                    cell.servers.pause(node)
                    await cell.load.wait_for_more(20, timeout=60)
                    await asyncio.sleep(rng.uniform(0, 5))
                    cell.servers.resume(node)
                case _:
                    await cell.servers.lame_duck(node)
                    await cell.load.wait_for_more(20, timeout=60)
            await cell.servers.healthy(cell.connection, streams)
        cell.report(result, await cell.verdict())
    result.faults = f"{len(faults)} leaders: kill -9, SIGSTOP, lame duck"
    return result


async def cluster_rolling(setting: Setting) -> Result:
    """Every node of the cluster is restarted in turn in lame duck mode, as for an upgrade."""
    result = Result("cluster-rolling", setting.seed)
    async with _cluster(setting, result, "rolling") as cell:
        for node in cell.servers.nodes:
            await cell.servers.lame_duck(node)
            await cell.servers.healthy(cell.connection, _streams(cell))
            await cell.load.wait_for_more(50, timeout=60)
        cell.report(result, await cell.verdict())
    result.faults = "3 nodes restarted in turn"
    return result


async def cluster_start(setting: Setting) -> Result:
    """Processes start for the first time while one or two nodes are down: none may exit, and all must serve in the end."""
    result = Result("cluster-start", setting.seed)
    rng = setting.rng("start")
    # Two of three nodes: JetStream has no leader. One of three: there is no place for three replicas, or no leader yet.
    faults = [1, 2] * setting.size(3, 1)
    rng.shuffle(faults)
    async with timed(result), Servers(setting.directory, 3) as servers:
        for number, down in enumerate(faults):
            setting.progress(f"{down} of 3 nodes are killed")
            load = {"keys": 12, "callers": 8, "pause": 0.005, "timeout": 3.0}
            async with open_cell(setting, servers, f"start{number}", **load) as cell:
                killed = rng.sample(servers.nodes, down)
                for node in killed:
                    node.kill()
                for _ in range(2):
                    cell.start("counter", "receipts", lease_ttl=4.0, keep=False)
                    cell.start("ledger", lease_ttl=4.0, keep=False)
                await asyncio.sleep(rng.uniform(1.0, 12.0))
                for node in killed:
                    await node.start()
                for worker in cell.fleet.workers:
                    await worker.ready(90)
                await servers.healthy(cell.connection, _streams(cell))
                cell.load.start()
                await cell.load.wait_for_more(50, timeout=60)
                cell.report(result, await cell.verdict())
                codes = [code for worker in cell.fleet.workers for code in worker.exit_codes]
                result.require(not codes, f"{len(codes)} processes have exited: {codes}")
    result.load = "8 callers over 12 keys, two processes of each actor, R3 streams, once all are ready"
    result.faults = f"{len(faults)} starts of four processes while one or two of three nodes are down"
    return result


def on_three_nodes(scenario: Scenario) -> Scenario:
    """Return `scenario` for three nodes with three replicas. Its kills of the server then kill one node at a time."""

    async def clustered(setting: Setting) -> Result:
        result = await scenario(replace(setting, nodes=3))
        result.name = f"cluster-{result.name}"
        return result

    clustered.__doc__ = f"On three nodes: {scenario.__doc__}"
    return clustered


def _streams(cell: Cell) -> list[str]:
    return [
        f"{cell.namespace}-{name}" for name in ("counter-turns", "counter-events", "ledger-turns", "receipts-turns")
    ] + [f"KV_{cell.namespace}-leases"]


@asynccontextmanager
async def _cluster(setting: Setting, result: Result, namespace: str) -> AsyncIterator[Cell]:
    """Start three nodes and two processes of each actor, under load."""
    result.load = "8 callers over 12 keys, two processes of each actor, R3 streams"
    three_nodes = replace(setting, nodes=3)
    async with single_cell(three_nodes, result, namespace, keys=12, callers=8, pause=0.005, timeout=3.0) as cell:
        for _ in range(2):
            cell.start("counter", "receipts", lease_ttl=4.0)
            cell.start("ledger", lease_ttl=4.0)
        cell.load.start()
        await cell.load.wait_for_more(100, timeout=60)
        yield cell
