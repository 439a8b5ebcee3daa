"""Leases: one holder at a time, released at once, taken over after a crash, and noticed if lost."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from runtime.errors import ConfigurationError
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import StreamConfig
from runtime.nats.jetstream.errors import StreamConflict
from runtime.nats.lease import Lease, bucket_config
from runtime.nats.lease_value import Holder
from runtime.nats.server import EmbeddedServer
from runtime.wire import header_block

HOLD = """
import asyncio, sys
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.lease import Lease

async def main(url, bucket):
    async with await Connection.connect(ConnectionOptions(url=url)) as connection:
        lease = Lease(JetStream(connection), bucket=bucket, key="orders.0", holder="child", ttl=1.0)
        await lease.acquire()
        print("held", flush=True)
        await lease.lost.wait()
        print("lost", lease.held(), flush=True)
        await lease.release()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def jetstream(nats_server: EmbeddedServer) -> AsyncIterator[JetStream]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        yield JetStream(connection)


def lease(jetstream: JetStream, bucket: str, holder: str, ttl: float = 4.0) -> Lease:
    return Lease(jetstream, bucket=bucket, key="orders.0", holder=holder, ttl=ttl)


async def stored(jetstream: JetStream, bucket: str) -> Holder | None:
    last = await jetstream.get_last(f"KV_{bucket}", f"$KV.{bucket}.orders.0")
    return msgspec.json.decode(last.payload, type=Holder) if last is not None and last.payload else None


async def test_one_process_holds_and_the_other_waits_for_the_release(jetstream: JetStream, namespace: str) -> None:
    first, second = lease(jetstream, namespace, "first"), lease(jetstream, namespace, "second")
    await first.acquire()
    assert first.held()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.wait({waiting}, timeout=0.3)
    assert not waiting.done() and not second.held()
    value = await stored(jetstream, namespace)
    assert value is not None and (value.holder, value.pid) == ("first", os.getpid())
    loop = asyncio.get_running_loop()
    released = loop.time()
    await first.release()
    assert not first.held()
    async with asyncio.timeout(30):
        await waiting
    # The release is announced: this is well before the next read of a waiting process.
    assert loop.time() - released < 0.5
    assert second.held() and not second.lost.is_set() and not first.lost.is_set()
    await first.release()
    assert (await stored(jetstream, namespace)) is not None
    await second.release()
    assert await stored(jetstream, namespace) is None


async def test_waiting_is_true_only_while_another_process_holds_the_lease(jetstream: JetStream, namespace: str) -> None:
    first, second = lease(jetstream, namespace, "first"), lease(jetstream, namespace, "second")
    acquiring = asyncio.create_task(first.acquire())
    while not acquiring.done():
        assert not first.waiting
        await asyncio.sleep(0)
    waiting = asyncio.create_task(second.acquire())
    async with asyncio.timeout(30):
        while not second.waiting:
            await asyncio.sleep(0.005)
        await first.release()
        await waiting
    assert not second.waiting
    await second.release()


async def test_exactly_one_of_many_holds_at_any_time(jetstream: JetStream, namespace: str) -> None:
    held: list[str] = []
    order: list[str] = []

    async def hold_once(holder: str) -> None:
        async with lease(jetstream, namespace, holder):
            held.append(holder)
            assert held == [holder]
            order.append(holder)
            await asyncio.sleep(0)
            held.remove(holder)

    async with asyncio.timeout(30):
        await asyncio.gather(*(hold_once(f"holder-{number}") for number in range(8)))
    assert len(set(order)) == 8


async def test_a_held_lease_is_renewed(jetstream: JetStream, namespace: str) -> None:
    holder = lease(jetstream, namespace, "holder", ttl=2.0)
    await holder.acquire()
    first = await jetstream.get_last(f"KV_{namespace}", f"$KV.{namespace}.orders.0")
    assert first is not None and header_block.get(first.headers, b"Nats-TTL") == "2s"
    # The renewals cover more than twice the ttl.
    async with asyncio.timeout(20):
        while True:
            last = await jetstream.get_last(f"KV_{namespace}", f"$KV.{namespace}.orders.0")
            assert last is not None
            if last.sequence >= first.sequence + 7:
                break
            await asyncio.sleep(0.05)
    assert holder.held() and not holder.lost.is_set()
    await holder.release()


HOLDER = msgspec.json.encode(Holder("foreign", 1.0, "host", 1))

FOREIGN_VALUES: list[tuple[bytes, str | None]] = [
    (HOLDER, None),
    (HOLDER, "never"),
    (HOLDER, "1000000s"),
    (b"free me", None),
    (b"{}", None),
    (b"[" * 100_000, None),
    (b"\xff\xfe", None),
    (b'{"holder":"x","since":"never","host":1}', "never"),
]
"""Values that no process of ours writes: the payload and the Nats-TTL."""


async def test_a_value_without_a_lifetime_is_free_once_it_is_old(jetstream: JetStream, namespace: str) -> None:
    await jetstream.ensure_stream(bucket_config(namespace))
    leases: list[Lease] = []
    for number, (payload, ttl) in enumerate(FOREIGN_VALUES):
        headers = None if ttl is None else header_block.encode([("Nats-TTL", ttl)])
        await jetstream.publish(f"$KV.{namespace}.k{number}", payload, headers=headers)
        leases.append(Lease(jetstream, bucket=namespace, key=f"k{number}", holder="ours", ttl=1.0))
    # A holder with a longer lifetime than ours renews less often, and keeps its lease.
    slow = Lease(jetstream, bucket=namespace, key="slow", holder="slow", ttl=12.0)
    await slow.acquire()
    patient = asyncio.create_task(Lease(jetstream, bucket=namespace, key="slow", holder="ours", ttl=1.0).acquire())
    acquiring = [asyncio.create_task(lease.acquire()) for lease in leases]
    await asyncio.wait(acquiring, timeout=0.5)
    assert not any(task.done() for task in acquiring)
    async with asyncio.timeout(20):
        await asyncio.gather(*acquiring)
    assert all(lease.held() for lease in leases)
    assert not patient.done() and slow.held()
    patient.cancel()
    await asyncio.wait({patient})
    await asyncio.gather(*(lease.release() for lease in (*leases, slow)))


async def test_a_killed_holder_is_replaced_after_its_ttl(
    jetstream: JetStream, namespace: str, nats_server: EmbeddedServer
) -> None:
    child = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", HOLD, nats_server.url, namespace], stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == b"held\n"
        standby = lease(jetstream, namespace, "standby")
        waiting = asyncio.create_task(standby.acquire())
        await asyncio.wait({waiting}, timeout=0.3)
        assert not waiting.done()
    finally:
        child.kill()
        child.communicate()
    async with asyncio.timeout(30):
        await waiting
    assert standby.held()
    await standby.release()


async def test_a_paused_holder_notices_the_loss_when_it_wakes(
    jetstream: JetStream, namespace: str, nats_server: EmbeddedServer
) -> None:
    child = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", HOLD, nats_server.url, namespace], stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == b"held\n"
        child.send_signal(signal.SIGSTOP)
        standby = lease(jetstream, namespace, "standby")
        async with asyncio.timeout(30):
            await standby.acquire()
        child.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(child.stdout.readline) == b"lost False\n"
        assert await asyncio.to_thread(child.wait, 10) == 0
        # A lost lease is not released.
        assert standby.held() and not standby.lost.is_set()
        value = await stored(jetstream, namespace)
        assert value is not None and value.holder == "standby"
        await standby.release()
    finally:
        child.kill()
        child.communicate()


async def test_a_refused_renewal_loses_the_lease(jetstream: JetStream, namespace: str) -> None:
    holder = lease(jetstream, namespace, "holder", ttl=1.0)
    await holder.acquire()
    usurper = msgspec.json.encode(Holder("usurper", 0.0, "elsewhere", 1))
    await jetstream.publish(f"$KV.{namespace}.orders.0", usurper)
    async with asyncio.timeout(30):
        await holder.lost.wait()
    assert not holder.held()
    await holder.release()
    value = await stored(jetstream, namespace)
    assert value is not None and value.holder == "usurper"


async def test_an_unconfirmed_renewal_of_our_own_loses_nothing(jetstream: JetStream, namespace: str) -> None:
    holder = lease(jetstream, namespace, "holder", ttl=1.0)
    await holder.acquire()
    # This simulates a renewal that was stored and whose acknowledgement was lost.
    value = await stored(jetstream, namespace)
    ack = await jetstream.publish(f"$KV.{namespace}.orders.0", msgspec.json.encode(value))
    async with asyncio.timeout(30):
        while (await jetstream.stream_info(f"KV_{namespace}")).state.last_seq < ack.sequence + 3:
            await asyncio.sleep(0.05)
    assert holder.held() and not holder.lost.is_set()
    await jetstream.publish(f"$KV.{namespace}.orders.0", msgspec.json.encode(value))
    await holder.release()
    assert await stored(jetstream, namespace) is None


async def test_an_absent_server_loses_the_lease_after_the_ttl(tmp_path: Path) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path) as server:
        async with await Connection.connect(ConnectionOptions(url=server.url)) as connection:
            holder = lease(JetStream(connection), "leases", "holder", ttl=1.0)
            await holder.acquire()
            server.kill()
            async with asyncio.timeout(30):
                await holder.lost.wait()
            assert not holder.held()
            await holder.release()


async def test_a_short_restart_of_the_server_loses_nothing(tmp_path: Path) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path, sync_always=True) as server:
        async with await Connection.connect(ConnectionOptions(url=server.url)) as connection:
            jetstream = JetStream(connection)
            holder = lease(jetstream, "leases", "holder", ttl=8.0)
            await holder.acquire()
            standby = lease(jetstream, "leases", "standby")
            waiting = asyncio.create_task(standby.acquire())
            server.kill()
            await server.start()
            await connection.wait_connected(10)
            before = await jetstream.get_last("KV_leases", "$KV.leases.orders.0")
            async with asyncio.timeout(20):
                while (last := await jetstream.get_last("KV_leases", "$KV.leases.orders.0")) is None or last == before:
                    await asyncio.sleep(0.05)
            assert holder.held() and not waiting.done()
            await holder.release()
            async with asyncio.timeout(30):
                await waiting
            await standby.release()


async def test_a_stream_that_is_not_a_bucket_is_refused(jetstream: JetStream, namespace: str) -> None:
    subjects = (f"$KV.{namespace}.>",)
    await jetstream.ensure_stream(StreamConfig(name=f"KV_{namespace}", subjects=subjects, storage="memory"))
    with pytest.raises(StreamConflict, match="storage"):
        await lease(jetstream, namespace, "holder").acquire()
    with pytest.raises(ConfigurationError, match="below the second"):
        lease(jetstream, namespace, "holder", ttl=0.5)


async def test_a_cancelled_acquire_leaves_no_subscription(jetstream: JetStream, namespace: str) -> None:
    async with lease(jetstream, namespace, "first") as first:
        before = len(jetstream.connection._subscriptions)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await lease(jetstream, namespace, "second").acquire()
        assert len(jetstream.connection._subscriptions) == before
        with pytest.raises(ConfigurationError, match="acquired already"):
            await first.acquire()


async def test_a_lease_is_free_if_the_call_is_cancelled_as_it_takes_it(jetstream: JetStream, namespace: str) -> None:
    first = lease(jetstream, namespace, "first", ttl=60.0)
    await first.acquire()
    await first.release()
    for turns in range(12):
        cancelled = lease(jetstream, namespace, f"cancelled {turns}", ttl=60.0)
        acquiring = asyncio.ensure_future(cancelled.acquire())
        while cancelled._taking is None:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        if acquiring.done():
            await cancelled.release()
        acquiring.cancel()
        await asyncio.wait({acquiring})
        assert not cancelled.held()
        last = lease(jetstream, namespace, "last", ttl=60.0)
        await asyncio.wait_for(last.acquire(), 30)
        await last.release()
