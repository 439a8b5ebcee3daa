"""A server that stops answering without closing connections: the time until recovery, with default settings."""

import asyncio
import time

from tests.chaos.cell import Cell, Result, Setting, open_cell, timed
from tests.chaos.proxy import Proxy
from tests.chaos.servers import Servers

PING = 5.0
"""Seconds between pings to the server, the default of `ConnectionOptions`."""


async def silence(setting: Setting) -> Result:
    """A proxy stops forwarding, and the server is stopped (SIGSTOP) for a while: the time until commands succeed again."""
    result = Result("silence", setting.seed)
    rng = setting.rng("silence")
    ping = 1.0 if setting.short else PING
    async with (
        timed(result),
        Servers(setting.directory) as servers,
        Proxy(servers.nodes[0].port) as proxy,
        open_cell(setting, servers, "silence", keys=10, callers=8, pause=0.005) as cell,
    ):
        for actors in (("counter", "receipts"), ("ledger",)):
            cell.start(*actors, url=proxy.url, lease_ttl=4.0, ping=ping)
        cell.load.start()
        await cell.load.wait_for_more(200)
        after_freeze: list[float] = []
        for _ in range(setting.size(3, 1)):
            await asyncio.sleep(rng.uniform(0, ping))
            proxy.freeze()
            after_freeze.append(await _recovery_time(cell))
            await cell.load.wait_for_more(200)
        after_stop: list[float] = []
        for seconds in (2.0, 6.0, 12.0)[: setting.size(3, 1)]:
            servers.pause(servers.nodes[0])
            await asyncio.sleep(seconds)
            servers.resume(servers.nodes[0])
            after_stop.append(await _recovery_time(cell))
            await cell.load.wait_for_more(200)
        cell.report(result, await cell.verdict())
    result.load = "8 callers over 10 keys, actors behind a proxy, no standby"
    result.faults = (
        f"the proxy stopped forwarding {len(after_freeze)} times; {len(after_stop)} SIGSTOP of the server for 2 to 12 s"
    )
    result.figures["seconds until recovery, proxy"] = ", ".join(f"{seconds:.1f}" for seconds in after_freeze)
    result.figures["seconds until recovery, after SIGCONT"] = ", ".join(f"{seconds:.1f}" for seconds in after_stop)
    result.require_pace(max(after_freeze) < 4 * ping + 10, f"recovered only after {max(after_freeze):.1f} s")
    return result


async def _recovery_time(cell: Cell) -> float:
    """Return the seconds until 20 more commands have succeeded."""
    begun = time.monotonic()
    await asyncio.sleep(0.1)  # replies that are on the wire already do not count
    await cell.load.wait_for_more(20, timeout=60)
    return time.monotonic() - begun
