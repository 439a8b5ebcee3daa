"""A server that vanishes without a FIN: seconds until all is well again, with the settings that ship."""

import asyncio
import time

from tests.chaos.cell import Cell, Result, Setting, cell, measured
from tests.chaos.proxy import Proxy
from tests.chaos.servers import Servers

PING = 5.0
"""Seconds between pings to the server: the default of `ConnectionOptions`."""


async def silence(setting: Setting) -> Result:
    """A proxy stops forwarding, then the server is stopped (SIGSTOP) and goes on: seconds until commands succeed again."""
    result = Result("silence", setting.seed)
    rng = setting.rng("silence")
    ping = 1.0 if setting.short else PING
    async with (
        measured(result),
        Servers(setting.directory) as servers,
        Proxy(servers.nodes[0].port) as proxy,
        cell(setting, servers, "silence", keys=10, callers=8, pause=0.005) as here,
    ):
        for actors in (("counter", "receipts"), ("ledger",)):
            here.start(*actors, url=proxy.url, lease_ttl=4.0, ping=ping)
        here.load.start()
        await here.load.reached(200)
        cut: list[float] = []
        for _ in range(setting.much(3, 1)):
            await asyncio.sleep(rng.uniform(0, ping))
            proxy.freeze()
            cut.append(await _healed(here))
            await here.load.reached(200)
        stopped: list[float] = []
        for seconds in (2.0, 6.0, 12.0)[: setting.much(3, 1)]:
            servers.pause(servers.nodes[0])
            await asyncio.sleep(seconds)
            servers.resume(servers.nodes[0])
            stopped.append(await _healed(here))
            await here.load.reached(200)
        here.report(result, await here.verdict())
    result.load = "8 callers over 10 keys, actors behind a proxy, no standby"
    result.faults = (
        f"{len(cut)} times the proxy stopped forwarding, {len(stopped)} times SIGSTOP of the server for 2 to 12 s"
    )
    result.figures["seconds until healed, proxy"] = ", ".join(f"{seconds:.1f}" for seconds in cut)
    result.figures["seconds until healed, after SIGCONT"] = ", ".join(f"{seconds:.1f}" for seconds in stopped)
    result.require(max(cut) < 4 * ping + 10, f"healed only after {max(cut):.1f} s")
    return result


async def _healed(here: Cell) -> float:
    """Return the seconds until commands of every kind of caller succeed again, and the ledger goes on."""
    begun = time.monotonic()
    await asyncio.sleep(0.1)  # what is on the wire already is no healing
    await here.load.reached(20, timeout=60)
    return time.monotonic() - begun
