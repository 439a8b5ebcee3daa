"""Take-overs of an actor: the facts that the next owner learns about the former one, and how long it waits."""

import asyncio
import os
import signal
from collections import Counter as Tally
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runtime import ActorError, RequestError, clocks
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.lease_value import Kind, kind_of
from runtime.nats.server import EmbeddedServer
from tests.support.counting import Add, Counter, GetCount, Wait
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.probe import Probe, running
from tests.support.process import running_command, stop_process
from tests.support.standby import standby
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]


async def test_an_owner_that_ends_with_a_commit_under_way_says_so(namespace: str, tmp_path: Path) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path) as server:
        async with running(Counter, url=server.url, namespace=namespace, lease_ttl=8.0) as system:
            await system.bus.command(Add("a"))
            first = system.lease("counter")
            assert system.is_settled("counter") and first.clean
            adding = asyncio.ensure_future(system.bus.command(Wait("unclean"), timeout=20))
            await until(lambda: RUN_COUNTS["wait unclean"])
            await stop_process(server.pid)
            try:
                gate("unclean").set()
                await until(lambda: not system.is_settled("counter"))
                system.crash("counter")
                await until(lambda: first._renewal is None)  # the parts have ended, and the release is under way
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await until(lambda: system.lease("counter") is not first and system.is_ready("counter"))
            second = system.lease("counter")
            assert not second.clean and second.unclean_at > 0
            with pytest.raises(RequestError):
                await adding
            # This ownership ends with nothing under way: the next take-over is clean, and remembers the former one.
            await system.bus.command(Add("a"))
            system.crash("counter")
            await until(lambda: system.lease("counter") is not second and system.is_ready("counter"))
            third = system.lease("counter")
            assert third.clean and third.unclean_at == second.unclean_at


async def test_a_cold_start_waits_for_nothing_after_a_clean_end(namespace: str, tmp_path: Path) -> None:
    """The first start, one after a drain and one after a restart of the server: none waits for the lease of 60 s."""
    server = EmbeddedServer(port=0, store_dir=tmp_path)
    for value in (1, 2, 3):
        if value != 2:
            await server.stop()
            await server.start()
        began = clocks.elapsed()
        async with running(Counter, url=server.url, namespace=namespace, lease_ttl=60.0) as system:
            assert clocks.elapsed() - began < 20.0
            assert (await system.bus.command(Add("cold"))).value == value
            assert system.lease("counter").clean and system.lease("counter").unclean_at == 0.0
    await server.stop()


async def test_a_cold_start_after_a_kill_waits_for_the_lease_of_the_dead_owner_only(
    namespace: str, tmp_path: Path
) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path) as server:
        arguments = ("run", "tests.support.counting:Counter", "--nats", server.url, "--namespace", namespace)
        async with running_command(*arguments, "--lease-ttl", "1", cwd=ROOT) as owner:
            await owner.until("serves")
            owner.signal(signal.SIGKILL)
            await owner.wait()
        # The lease expires while nobody looks, and the server leaves a marker that tells of it.
        async with await Connection.connect(ConnectionOptions(url=server.url)) as connection, asyncio.timeout(30):
            jetstream, bucket = JetStream(connection), f"{namespace}-leases"
            while kind_of(await jetstream.get_last(f"KV_{bucket}", f"$KV.{bucket}.counter.0")) is not Kind.EXPIRED:
                await asyncio.sleep(0.02)
        began = clocks.elapsed()
        async with running(Counter, url=server.url, namespace=namespace, lease_ttl=60.0) as system:
            assert clocks.elapsed() - began < 20.0
            assert not system.lease("counter").clean and system.lease("counter").unclean_at > 0


async def test_nothing_is_stale_while_somebody_deletes_the_lease(nats_server: EmbeddedServer, namespace: str) -> None:
    """Callers of two processes, one of them the owner, write and read while the lease is purged under them."""
    acknowledged = Tally[str]()
    stale: list[str] = []
    reads = 0
    ended = asyncio.Event()

    async def call(system: Probe, name: str) -> None:
        nonlocal reads
        while not ended.is_set():
            try:
                value = (await system.bus.command(Add(name), timeout=1)).value
                acknowledged[name] = max(acknowledged[name], value)
            except ActorError:
                await asyncio.sleep(0.01)
            for reader in (one, two):
                known = acknowledged[name]
                try:
                    value = (await reader.bus.query(GetCount(name), timeout=1)).value
                except (ActorError, TimeoutError):
                    continue
                reads += 1
                if value < known:
                    stale.append(f"{name}: {value} after {known}")

    options: dict[str, Any] = {"url": nats_server.url, "namespace": namespace, "lease_ttl": 1.0}
    async with running(Counter, **options) as one, standby(Counter, **options) as two:
        callers = [asyncio.ensure_future(call(system, f"k{n}")) for n, system in enumerate((one, two) * 3)]
        bucket = f"{namespace}-leases"
        for _ in range(2):
            before = await reached(lambda: reads, 200)
            owner = one if one.is_ready("counter") else two
            ownership = owner.ownership("counter")
            deleted = clocks.elapsed()
            await owner.jetstream.purge(f"KV_{bucket}", f"$KV.{bucket}.counter.0", 2**40)
            await until(partial(changed, owner, ownership))
            await until(lambda: one.is_ready("counter") or two.is_ready("counter"))
            assert clocks.elapsed() - deleted >= 1.0
            await reached(lambda: reads, before + 400)
        ended.set()
        await asyncio.gather(*callers)
    assert not stale, stale[:5]


def changed(system: Probe, ownership: object) -> bool:
    return system.ownership("counter") is not ownership


async def reached(count: Callable[[], int], least: int) -> int:
    """Wait until a count has reached a number, and return it."""
    await until(lambda: count() >= least)
    return count()
