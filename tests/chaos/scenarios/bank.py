"""The bank under faults of its processes and of their connections: no answer is stale, and no money is made or lost."""

import asyncio
import signal
from collections.abc import Iterable
from contextlib import AsyncExitStack

from tests.chaos.bank_cell import BankCell, open_bank
from tests.chaos.cell import Result, Setting, timed
from tests.chaos.fleet import paused, suspended
from tests.chaos.namespaces import Namespace, unavailable
from tests.chaos.proxy import Proxy
from tests.chaos.servers import Servers

LOAD = "6 holders, 8 customers who send once, 8 readers, a lister"


async def bank_pauses(setting: Setting) -> Result:
    """The owner is stopped, or blocked by its own handler, past its lease and in the middle of turns; then it continues."""
    result = Result("bank-pauses", setting.seed)
    await pause_owners(setting, result)
    return result


async def pause_owners(setting: Setting, result: Result, without: Iterable[str] = ()) -> None:
    """Stop or block one owner after another past its lease."""
    rng = setting.rng("bank-pauses")
    rounds = setting.size(8, 1)
    async with open_bank(setting, result, "pauses", without=without) as bank:
        for number in range(rounds):
            owner = await bank.owner()
            seconds = rng.uniform(2.2, 3.4)
            if number % 2:
                bank.depositors.burst(0.1, block=seconds, process=owner.pid)
                await asyncio.sleep(seconds)
            else:
                bank.depositors.burst(0.1)
                await asyncio.sleep(rng.uniform(0.03, 0.09))
                with paused([owner]):
                    await asyncio.sleep(seconds)
            await observe(bank, rng.uniform(1.0, 2.0))
        await bank.finish(result, 8.0)
    result.load = LOAD
    result.faults = f"{rounds} owners stopped (SIGSTOP) or blocked (time.sleep) for 2.2 to 3.4 s, with a lease of 1 s"


async def bank_suspended(setting: Setting) -> Result:
    """The machine of the owner is suspended past the lease: its monotonic clock does not count that time."""
    result = Result("bank-suspended", setting.seed)
    await suspend_owners(setting, result)
    return result


async def suspend_owners(setting: Setting, result: Result, without: Iterable[str] = ()) -> None:
    """Suspend one owner after another past its lease."""
    rng = setting.rng("bank-suspended")
    rounds = setting.size(6, 2)
    async with open_bank(setting, result, "suspended", without=without, suspendable=True) as bank:
        for _ in range(rounds):
            owner = await bank.owner()
            bank.depositors.burst(0.1)
            await asyncio.sleep(rng.uniform(0.03, 0.09))
            with suspended([owner]):
                await asyncio.sleep(rng.uniform(2.2, 3.4))
            await observe(bank, rng.uniform(1.0, 2.0))
        await bank.finish(result, 8.0)
    result.load = LOAD
    result.faults = f"{rounds} owners suspended for 2.2 to 3.4 s, with a lease of 1 s"


async def bank_held_commits(setting: Setting) -> Result:
    """All that the owner sends is held up past its lease, and arrives after its successor has answered."""
    result = Result("bank-held-commits", setting.seed)
    await hold_commits(setting, result)
    return result


async def hold_commits(setting: Setting, result: Result, without: Iterable[str] = ()) -> None:
    """Hold up the packets of one owner after another."""
    rng = setting.rng("bank-held-commits")
    rounds = setting.size(8, 2)
    async with timed(result), Servers(setting.directory) as servers, AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy(servers.nodes[0].port)) for _ in range(2)]
        urls = [{"url": proxy.url, "ping": 5.0, "tick": 1.0} for proxy in proxies]
        bank = await stack.enter_async_context(
            open_bank(setting, result, "held", servers=servers, banks=urls, without=without)
        )
        for number in range(rounds):
            owner = await bank.owner()
            proxy = proxies[bank.banks.index(owner)]
            bank.depositors.burst(0.02)
            await asyncio.sleep(rng.uniform(0.015, 0.025))
            proxy.hold()
            await asyncio.sleep(0.05)
            # Every second owner is stopped as well, so that it reads the late acknowledgements before its clock.
            with paused([owner] if number % 2 else []):
                await asyncio.sleep(rng.uniform(2.2, 3.2))
                if number % 4 == 3:
                    # The owner after the next one knows of the packets by its predecessor only, who ends cleanly.
                    successor = await bank.owner()
                    successor.signal(signal.SIGTERM)
                    await asyncio.sleep(1.5)
                proxy.release()
                await asyncio.sleep(0.03)
            await observe(bank, rng.uniform(1.0, 2.0))
        await bank.finish(result, 8.0)
    result.load = LOAD
    result.faults = f"the packets of {rounds} owners held up for 2.2 to 3.2 s, every second one stopped (SIGSTOP), and half of their successors ended, with a lease of 1 s"


async def bank_late_commits(setting: Setting) -> Result:
    """A connection of the owner, who keeps its lease, is held up; commits sent on it arrive after the owner has connected anew."""
    result = Result("bank-late-commits", setting.seed)
    rng = setting.rng("bank-late-commits")
    rounds = setting.size(4, 1)
    async with timed(result), Servers(setting.directory) as servers, AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(servers.nodes[0].port))
        bank = await stack.enter_async_context(
            open_bank(setting, result, "late", servers=servers, banks=[{"url": proxy.url}], lease_ttl=15.0)
        )
        for _ in range(rounds):
            bank.depositors.burst(0.02)
            await asyncio.sleep(rng.uniform(0.015, 0.025))
            proxy.hold(new=False)
            await asyncio.sleep(rng.uniform(4.0, 8.0))  # the owner connects anew after three seconds without a pong
            proxy.release()
            await observe(bank, rng.uniform(1.0, 2.0))
        await bank.finish(result, 12.0)
    result.load = LOAD
    result.faults = f"{rounds} connections of the owner held up for 4 to 8 s, with a lease of 15 s"
    return result


async def bank_cuts(setting: Setting) -> Result:
    """The network of the owner drops all packets in one direction, or both, for a while (network namespaces; needs root)."""
    result = Result("bank-cuts", setting.seed)
    await cut_owners(setting, result, "cuts", processes=2)
    return result


async def cut_owners(setting: Setting, result: Result, namespace: str, processes: int, partitions: int = 1) -> None:
    """Cut the network of the owner of a random partition, again and again, and audit the bank. Fills in load and faults."""
    result.load = LOAD
    if reason := unavailable():
        result.faults = f"SKIPPED: no network namespaces here ({reason})"
        return
    rng = setting.rng(result.name)
    cuts = [("out",), ("in",), ("out", "in")] * setting.size(2, 1)
    async with timed(result), Servers(setting.directory) as servers, AsyncExitStack() as stack:
        spaces = [await stack.enter_async_context(Namespace(servers.nodes[0].port)) for _ in range(processes)]
        # Pings as seldom as by default: a connection that is closed during a cut loses what it has not sent.
        inside = [{"url": space.url, "inside": space.inside, "ping": 5.0, "tick": 1.0} for space in spaces]
        bank = await stack.enter_async_context(
            open_bank(setting, result, namespace, servers=servers, banks=inside, partitions=partitions)
        )
        for directions in cuts:
            space = spaces[bank.banks.index(await bank.owner(rng.randrange(partitions)))]
            setting.progress(f"cut {' and '.join(directions)}")
            bank.depositors.burst(0.08)
            await asyncio.sleep(rng.uniform(0.015, 0.025))
            await space.cut(*directions)
            await asyncio.sleep(rng.uniform(2.0, 3.5))
            await space.heal()
            await observe(bank, rng.uniform(4.0, 6.0))  # TCP repeats what was lost, after ever longer pauses
        await bank.finish(result, 15.0)
    result.faults = f"{len(cuts)} cuts of one of {processes} processes for 2 to 3.5 s: to the server, from it, and both"


async def bank_kills(setting: Setting) -> Result:
    """Owners, standbys and the server are killed at random moments."""
    result = Result("bank-kills", setting.seed)
    rng = setting.rng("bank-kills")
    rounds = setting.size(16, 2)
    servers = 0
    async with open_bank(setting, result, "bankkills") as bank:
        for number in range(rounds):
            bank.depositors.burst(0.02)
            await asyncio.sleep(rng.uniform(0.005, 0.03))
            if number % 4 == 3:
                servers += 1
                await bank.servers.restart(rng.choice(bank.servers.nodes))
            else:
                worker = await bank.owner() if rng.random() < 0.75 else rng.choice(bank.cell.fleet.workers)
                worker.kill()
            await observe(bank, rng.uniform(0.3, 2.0))
        await bank.finish(result, 10.0)
    result.load = LOAD
    result.faults = f"{rounds - servers} kill -9 of processes, most of them owners, and {servers} of the server"
    return result


async def observe(bank: BankCell, seconds: float) -> None:
    """Let the customers go on for a while, and at least until 50 more commands have succeeded."""
    await asyncio.sleep(seconds)
    await bank.depositors.wait_for_more(50)
