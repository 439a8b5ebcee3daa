"""The bank under all faults in a mix, and on three nodes with three replicas."""

import asyncio
import signal
from contextlib import suppress
from dataclasses import replace
from random import Random

from runtime import ActorError
from runtime.nats.server import EmbeddedServer
from runtime.wire.subjects import Names
from tests.chaos.bank_cell import BankCell, open_bank
from tests.chaos.cell import Result, Setting
from tests.chaos.depositors import Crowd
from tests.chaos.fleet import paused
from tests.chaos.scenarios.bank import LOAD, observe
from tests.chaos.scenarios.bank_storage import delete_lease

_FAULTS = ("kill", "kill", "stop", "block", "server", "server stop", "terminate", "delete", "purge", "bucket")
_SECOND = ("kill", "stop", "block", "terminate", "delete")
"""The faults that may occur beside another one."""
_SKEW = 20.0
"""Seconds by which the clocks of the two processes of the bank are wrong in `bank-mix`."""
_CLUSTER_FAULTS = ("kill", "stop", "lame duck", "owner", "pause", "all", "rolling")


async def bank_mix(setting: Setting) -> Result:
    """Kills, pauses, SIGTERM, restarts and pauses of the server and deleted leases in a random order, with wrong clocks."""
    result = Result("bank-mix", setting.seed)
    rng = setting.rng("bank-mix")
    faults = [rng.choice(_FAULTS) for _ in range(setting.size(16, 3))]
    async with open_bank(setting, result, "mix", banks=[{"skew": _SKEW}, {"skew": -_SKEW}]) as bank:
        for fault in faults:
            bank.depositors.burst(rng.choice((0.02, 0.1)))
            await asyncio.sleep(rng.uniform(0.01, 0.05))
            if rng.random() < 0.3:  # two faults at a time
                await asyncio.gather(_cause(bank, fault, rng), _cause(bank, rng.choice(_SECOND), rng))
            else:
                await _cause(bank, fault, rng)
            await observe(bank, rng.uniform(0.3, 2.0))
        await bank.finish(result, 15.0)
    result.load = LOAD
    result.faults = f"{len(faults)} faults: " + ", ".join(f"{faults.count(one)} {one}" for one in sorted(set(faults)))
    return result


async def bank_handovers(setting: Setting) -> Result:
    """Owners hand over beside slow handlers (SIGTERM), and some are killed or stopped before these handlers have ended."""
    result = Result("bank-handovers", setting.seed)
    rng = setting.rng("bank-handovers")
    endings = ["well", "killed", "stopped"] * setting.size(4, 1)
    async with open_bank(setting, result, "handovers") as bank:
        for ending in endings:
            owner = await bank.owner()
            bank.depositors.burst(rng.uniform(0.4, 0.9))
            await asyncio.sleep(rng.uniform(0.02, 0.2))
            owner.signal(signal.SIGTERM)
            await asyncio.sleep(rng.uniform(0.2, 1.0))
            match ending:
                case "killed":
                    owner.kill()
                case "stopped":
                    with paused([owner]):
                        await asyncio.sleep(rng.uniform(2.0, 4.0))
                case _:
                    pass
            await observe(bank, rng.uniform(1.0, 2.0))
        await bank.finish(result, 12.0)
    result.load = LOAD
    result.faults = (
        f"{len(endings)} SIGTERM of owners with handlers of up to 0.9 s; a third of them killed then, a third stopped"
    )
    return result


async def _cause(bank: BankCell, fault: str, rng: Random) -> None:
    """Cause a fault on one server."""
    owner = await bank.owner()
    match fault:
        case "kill":
            owner.kill()
        case "stop":
            with paused([owner]):
                await asyncio.sleep(rng.uniform(2.2, 3.4))
        case "block":
            bank.depositors.burst(0.0, block=rng.uniform(2.2, 3.4), process=owner.pid)
        case "server":
            await bank.servers.restart(bank.servers.nodes[0])
        case "server stop":
            bank.servers.pause(bank.servers.nodes[0])
            await asyncio.sleep(rng.uniform(2.0, 6.0))
            bank.servers.resume(bank.servers.nodes[0])
        case "terminate":
            owner.signal(signal.SIGTERM)
        case _:
            with suppress(ActorError, TimeoutError):  # the server may be down
                await delete_lease(bank, fault)


async def cluster_bank(setting: Setting) -> Result:
    """On three nodes with three replicas: leaders are killed, stopped and shut down, and all nodes start again together."""
    result = Result("cluster-bank", setting.seed)
    rng = setting.rng("cluster-bank")
    faults = list(_CLUSTER_FAULTS) * setting.size(2, 1)
    crowd = Crowd(timeout=3.0, pause=0.02)
    three_nodes = replace(setting, nodes=3)
    async with open_bank(three_nodes, result, "clusterbank", crowd=crowd, lease_ttl=4.0) as bank:
        for fault in faults:
            setting.progress(fault)
            bank.depositors.burst(0.02)
            await asyncio.sleep(rng.uniform(0.01, 0.05))
            await _cause_on_cluster(bank, fault, rng)
            await bank.servers.healthy(bank.cell.connection, _streams(bank))
            await observe(bank, rng.uniform(1.0, 3.0))
        await bank.finish(result, 30.0)
    result.load = f"{LOAD}, R3 streams"
    result.faults = f"{len(faults)} faults: " + ", ".join(f"{faults.count(one)} {one}" for one in _CLUSTER_FAULTS)
    return result


async def _cause_on_cluster(bank: BankCell, fault: str, rng: Random) -> None:
    servers = bank.servers
    streams = _streams(bank)
    more = 20
    match fault:
        case "owner":
            (await bank.owner()).kill()
        case "pause":
            with paused([await bank.owner()]):
                await asyncio.sleep(rng.uniform(4.5, 7.0))
        case "all":
            # Processes that start on a cluster without leaders must wait for them.
            for node in servers.nodes:
                node.kill()
            for worker in bank.cell.fleet.workers:
                worker.kill()
            await asyncio.gather(*(node.start() for node in servers.nodes))
        case "rolling":
            for node in servers.nodes:
                await servers.lame_duck(node)
                await servers.healthy(bank.cell.connection, streams)
        case _:
            node = await servers.leader(bank.cell.connection, rng.choice(streams))
            await _take_down(bank, node, fault, more, rng)


async def _take_down(bank: BankCell, node: EmbeddedServer, fault: str, more: int, rng: Random) -> None:
    """Take one node down until `more` commands have succeeded without it."""
    servers = bank.servers
    match fault:
        case "kill":
            node.kill()
            await bank.depositors.wait_for_more(more)
            await servers.restart(node)
        case "stop":
            servers.pause(node)
            await bank.depositors.wait_for_more(more)
            await asyncio.sleep(rng.uniform(0.0, 5.0))
            servers.resume(node)
        case _:
            await servers.lame_duck(node)
            await bank.depositors.wait_for_more(more)


def _streams(bank: BankCell) -> list[str]:
    names = Names("bank", bank.cell.namespace)
    return [names.turns_stream, f"KV_{names.lease_bucket}", names.events_stream]
