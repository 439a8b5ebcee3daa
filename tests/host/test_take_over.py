"""Take-overs of an actor: what the next owner learns of the former one, and how long it waits."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from runtime import RequestError, clocks
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.lease import Lease
from runtime.nats.lease_value import Kind, kind_of
from runtime.nats.server import EmbeddedServer
from tests.support.counting import Add, Counter, Wait
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.probe import Probe, running
from tests.support.process import running_command
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]


def lease_of(system: Probe) -> Lease:
    lease = system._host("counter")._lease
    assert lease is not None
    return lease


async def test_an_owner_that_ends_with_a_commit_under_way_says_so(namespace: str, tmp_path: Path) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path) as server:
        async with running(Counter, url=server.url, namespace=namespace, lease_ttl=8.0) as system:
            await system.bus.command(Add("a"))
            first, serving = lease_of(system), system._serving("counter")
            assert serving.settled and first.clean
            adding = asyncio.ensure_future(system.bus.command(Wait("unclean"), timeout=20))
            await until(lambda: RUN_COUNTS["wait unclean"])
            os.kill(server.pid, signal.SIGSTOP)
            try:
                gate("unclean").set()
                await until(lambda: not serving.settled)
                system.crash("counter")
                await until(lambda: first._renewal is None)  # the parts have ended, and the release is under way
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await until(lambda: lease_of(system) is not first and system.is_ready("counter"))
            second = lease_of(system)
            assert not second.clean and second.unclean_at > 0
            with pytest.raises(RequestError):
                await adding
            # This ownership ends with nothing under way: the next take-over is clean, and remembers the former one.
            await system.bus.command(Add("a"))
            system.crash("counter")
            await until(lambda: lease_of(system) is not second and system.is_ready("counter"))
            third = lease_of(system)
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
            assert lease_of(system).clean and lease_of(system).unclean_at == 0.0
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
        async with await Connection.connect(ConnectionOptions(url=server.url)) as connection, asyncio.timeout(15):
            jetstream, bucket = JetStream(connection), f"{namespace}-leases"
            while kind_of(await jetstream.get_last(f"KV_{bucket}", f"$KV.{bucket}.counter.0")) is not Kind.EXPIRED:
                await asyncio.sleep(0.02)
        began = clocks.elapsed()
        async with running(Counter, url=server.url, namespace=namespace, lease_ttl=60.0) as system:
            assert clocks.elapsed() - began < 20.0
            assert not lease_of(system).clean and lease_of(system).unclean_at > 0
