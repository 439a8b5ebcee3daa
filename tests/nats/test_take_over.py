"""Take-overs of a lease: whether the new holder waits, and the facts that it learns about the former one."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from runtime import clocks
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream import api
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import WrongSequence
from runtime.nats.jetstream.responses import StoredMessage, SuccessResponse
from runtime.nats.lease import Lease, bucket_config
from runtime.nats.lease_take_over import Candidate, recent
from runtime.nats.lease_value import Finishing, Kind, kind_of
from runtime.nats.server import EmbeddedServer
from runtime.wire import header_block
from tests.support.waiting import until


@pytest.fixture
async def jetstream(nats_server: EmbeddedServer) -> AsyncIterator[JetStream]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        yield JetStream(connection)


async def used() -> bool:
    return True


def lease(jetstream: JetStream, bucket: str, holder: str, ttl: float = 1.0) -> Lease:
    return Lease(jetstream, bucket=bucket, key="orders.0", holder=holder, ttl=ttl, used=used)


async def first_holder(jetstream: JetStream, bucket: str, ttl: float = 1.0) -> Lease:
    """Return the lease of the first holder ever."""
    first = Lease(jetstream, bucket=bucket, key="orders.0", holder="first", ttl=ttl)
    await first.acquire()
    assert (first.clean, first.unclean_at, first.left) == (True, 0.0, None)
    return first


async def acquired(lease: Lease) -> float:
    """Acquire a lease. Return the seconds that it took."""
    began = clocks.elapsed()
    async with asyncio.timeout(20):
        await lease.acquire()
    return clocks.elapsed() - began


@pytest.fixture
def suspend(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the clock of leases go on for some seconds, as if the machine was suspended for them."""
    shift = 0.0
    now = clocks.elapsed
    monkeypatch.setattr(clocks, "elapsed", lambda: now() + shift)

    def suspend(seconds: float) -> None:
        nonlocal shift
        shift += seconds

    return suspend


async def test_a_lease_that_was_not_held_once_is_never_held_again(
    jetstream: JetStream, namespace: str, suspend: Callable[[float], None]
) -> None:
    first = await first_holder(jetstream, namespace, ttl=4.0)
    suspend(3.0)
    assert first.held() and not first.lost.is_set()
    suspend(1.5)
    assert not first.held() and first.lost.is_set()
    suspend(-4.5)  # as a renewal that was under way and is confirmed now would do
    assert not first.held()
    await first.release()
    assert kind_of(await stored(jetstream, namespace)) is Kind.VALUE  # it is left to expire


async def stored(jetstream: JetStream, bucket: str) -> StoredMessage | None:
    return await jetstream.get_last(f"KV_{bucket}", f"$KV.{bucket}.orders.0")


async def test_a_release_tells_whether_everything_was_settled(
    jetstream: JetStream, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await first_holder(jetstream, namespace)).release()
    second = lease(jetstream, namespace, "second")
    assert await acquired(second) < 0.9
    assert (second.clean, second.unclean_at) == (True, 0.0)
    before = jetstream.connection.clock.now()
    await second.release(settled=False)
    third = lease(jetstream, namespace, "third")
    assert await acquired(third) < 0.9
    assert not third.clean and before <= third.unclean_at <= jetstream.connection.clock.now()
    await third.release()
    fourth, wall = lease(jetstream, namespace, "fourth"), time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 1200)  # the clock of its machine is wrong
    await fourth.acquire()
    assert fourth.clean and fourth.unclean_at == third.unclean_at  # inherited for ten minutes
    await fourth.release()


def test_a_wall_clock_that_is_set_does_not_end_a_hand_over(monkeypatch: pytest.MonkeyPatch) -> None:
    left = Finishing("first", ("a",), 30.0).read()
    monkeypatch.setattr(time, "time", lambda: 2e9)
    rewritten = left.rewritten()
    assert rewritten is not None and 29 < rewritten.seconds <= 30


def test_an_unclean_take_over_is_forgotten_and_never_in_the_future() -> None:
    now = time.time()
    assert recent(0.0, now) == recent(now - 601, now) == 0.0
    assert recent(now - 590, now) == now - 590
    assert recent(now + 1000, now) == now


async def test_the_marker_of_a_release_stays_and_that_of_an_expiry_tells_of_it(
    jetstream: JetStream, namespace: str
) -> None:
    first = await first_holder(jetstream, namespace)
    await first.release()
    marker = await stored(jetstream, namespace)
    assert marker is not None and kind_of(marker) is Kind.RELEASED and not marker.payload
    assert header_block.get(marker.headers, b"Nats-TTL") is None
    assert header_block.get(marker.headers, b"KV-Operation") == "DEL"
    second = lease(jetstream, namespace, "second")
    await second.acquire()
    await second._stop_renewal()
    third = lease(jetstream, namespace, "third")
    # The value expires: the next holder waits for that, and for nothing else.
    assert await acquired(third) < 3.5
    assert not third.clean and third.unclean_at > 0.0
    await third._stop_renewal()
    async with asyncio.timeout(30):
        while kind_of(await stored(jetstream, namespace)) is not Kind.EXPIRED:
            await asyncio.sleep(0.02)
    fourth = lease(jetstream, namespace, "fourth")
    assert await acquired(fourth) < 0.9
    assert not fourth.clean
    await fourth.release()


Deletion = Callable[[JetStream, str], Awaitable[object]]


async def kv_delete(jetstream: JetStream, bucket: str) -> None:
    """As ``nats kv del`` does."""
    headers = header_block.encode([("KV-Operation", "DEL")])
    await jetstream.publish(f"$KV.{bucket}.orders.0", b"", headers=headers)


async def kv_purge(jetstream: JetStream, bucket: str) -> None:
    """As ``nats kv purge`` does."""
    headers = header_block.encode([("KV-Operation", "PURGE"), ("Nats-Rollup", "sub")])
    await jetstream.publish(f"$KV.{bucket}.orders.0", b"", headers=headers)


async def purge_key(jetstream: JetStream, bucket: str) -> None:
    await api.call(
        jetstream.connection,
        f"STREAM.PURGE.KV_{bucket}",
        {"filter": f"$KV.{bucket}.orders.0"},
        SuccessResponse,
        5,
    )


async def purge_bucket(jetstream: JetStream, bucket: str) -> None:
    await api.call(jetstream.connection, f"STREAM.PURGE.KV_{bucket}", None, SuccessResponse, 5)


async def delete_bucket(jetstream: JetStream, bucket: str) -> None:
    await jetstream.delete_stream(f"KV_{bucket}")


async def replace_bucket(jetstream: JetStream, bucket: str) -> None:
    await jetstream.delete_stream(f"KV_{bucket}")
    await jetstream.ensure_stream(bucket_config(bucket))


async def empty_value(jetstream: JetStream, bucket: str) -> None:
    await jetstream.publish(f"$KV.{bucket}.orders.0", b"")


async def forged_release(jetstream: JetStream, bucket: str) -> None:
    headers = header_block.encode([("KV-Operation", "DEL"), ("Actorloom-Released", "true")])
    await jetstream.publish(f"$KV.{bucket}.orders.0", b"", headers=headers)


DELETIONS: list[Deletion] = [
    kv_delete,
    kv_purge,
    purge_key,
    purge_bucket,
    delete_bucket,
    replace_bucket,
    empty_value,
    forged_release,
]


async def test_a_lease_that_somebody_deleted_is_free_after_its_lifetime(jetstream: JetStream, namespace: str) -> None:
    """All ways to delete a lease, side by side: with a live holder, a standby and a process that starts afterwards."""

    async def one(delete: Deletion, bucket: str) -> None:
        holder = await first_holder(jetstream, bucket)
        standby = lease(jetstream, bucket, "standby")
        waiting = asyncio.create_task(standby.acquire())
        await until(lambda: standby.waiting)
        await delete(jetstream, bucket)
        deleted = clocks.elapsed()
        late = lease(jetstream, bucket, "late")
        starting = asyncio.create_task(late.acquire())
        # The holder that knows nothing yet goes on for less time than the others wait.
        while holder.held():
            assert not waiting.done() and not starting.done(), delete
            await asyncio.sleep(0.005)
        async with asyncio.timeout(30):
            await asyncio.wait({waiting, starting}, return_when=asyncio.FIRST_COMPLETED)
        assert clocks.elapsed() - deleted >= 1.0, delete
        winner = standby if waiting.done() else late
        assert winner.held() and not winner.clean and winner.unclean_at > 0, delete
        for task in (waiting, starting):
            task.cancel()
        await asyncio.wait({waiting, starting})
        await winner.release()

    async with asyncio.timeout(60):
        await asyncio.gather(*(one(delete, f"{namespace}-{n}") for n, delete in enumerate(DELETIONS)))


async def test_a_lease_is_handed_over_while_the_giver_finishes_some_keys(
    jetstream: JetStream, namespace: str, suspend: Callable[[float], None]
) -> None:
    giver = await first_holder(jetstream, namespace, ttl=4.0)
    second = lease(jetstream, namespace, "second")
    waiting = asyncio.create_task(second.acquire())
    await until(lambda: second.waiting)
    assert await giver.hand_over(["a", "b"], 30.0)
    async with asyncio.timeout(30):
        await waiting
    assert giver.held() and second.held() and not giver.lost.is_set()
    left = second.left
    assert second.clean and left is not None
    assert (left.holder, left.tokens) == ("first", ("a", "b")) and 0 < left.until - clocks.elapsed() <= 30
    # A holder that still waits for another one cannot hand over itself; its release carries on what is left.
    assert not await second.hand_over(["c"], 30.0)
    await second.release()
    third = lease(jetstream, namespace, "third")
    await third.acquire()
    assert third.clean and third.left is not None
    assert (third.left.holder, third.left.tokens) == ("first", ("a", "b")) and third.left.seconds <= left.seconds
    third.left = None
    await giver.release()  # it takes nothing from the others
    assert not giver.held() and third.held()
    assert await third.hand_over(["c"], 5.0)
    suspend(5.5)
    assert not third.held() and not third.lost.is_set()


async def test_a_giver_that_has_finished_before_anybody_took_over_leaves_nothing(
    jetstream: JetStream, namespace: str
) -> None:
    giver = await first_holder(jetstream, namespace)
    assert await giver.hand_over(["a"], 30.0, settled=False)
    await giver.release()
    second = lease(jetstream, namespace, "second")
    await second.acquire()
    assert second.clean and second.left is None
    await second.release()


@pytest.mark.parametrize("taken", [True, False], ids=["taken at once", "nobody waits"])
async def test_a_hand_over_whose_answer_is_lost_is_one_if_it_is_stored(
    jetstream: JetStream, namespace: str, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    giver = await first_holder(jetstream, namespace, ttl=4.0)
    second = lease(jetstream, namespace, "second")
    waiting = asyncio.create_task(second.acquire())
    await until(lambda: second.waiting)
    if not taken:
        waiting.cancel()
    publish, lost = jetstream.publish, asyncio.Event()

    async def losing(subject: str, payload: bytes, **options: Any) -> Any:
        ack = await publish(subject, payload, **options)
        if payload or lost.is_set():
            return ack
        lost.set()
        if taken:
            await waiting
        raise TimeoutError

    monkeypatch.setattr(jetstream, "publish", losing)
    assert await giver.hand_over(["a"], 30.0)
    assert giver.held() and not giver.lost.is_set()
    await (waiting if taken else second.acquire())
    assert second.clean and second.left is not None and second.left.tokens == ("a",)
    await asyncio.gather(second.release(), giver.release())


async def test_a_hand_over_that_is_not_stored_cannot_be_stored_later(
    jetstream: JetStream, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    giver = await first_holder(jetstream, namespace, ttl=4.0)
    publish, held = jetstream.publish, list[Any]()

    async def holding(subject: str, payload: bytes, **options: Any) -> Any:
        if payload:
            return await publish(subject, payload, **options)
        held.append((subject, payload, options))
        raise TimeoutError

    monkeypatch.setattr(jetstream, "publish", holding)
    assert not await giver.hand_over(["a"], 30.0)
    assert giver.held() and not giver.lost.is_set()
    ((subject, payload, options),) = held
    with pytest.raises(WrongSequence):
        await publish(subject, payload, **options)
    monkeypatch.setattr(jetstream, "publish", publish)
    await giver.release()


async def test_a_lost_holder_hands_nothing_over(jetstream: JetStream, namespace: str) -> None:
    holder = await first_holder(jetstream, namespace)
    await replace_bucket(jetstream, namespace)
    async with asyncio.timeout(30):
        await holder.lost.wait()
    assert not await holder.hand_over(["a"], 30.0)
    assert await stored(jetstream, namespace) is None


async def test_the_wait_for_a_deleted_lease_begins_again_if_it_was_taken_meanwhile(
    jetstream: JetStream, namespace: str
) -> None:
    """A waiting process that reads the key once a second sees it absent, and absent again."""
    holder = await first_holder(jetstream, namespace)
    waiter = lease(jetstream, namespace, "waiter")
    waiting = asyncio.create_task(waiter.acquire())
    await until(lambda: waiter.waiting)
    await purge_key(jetstream, namespace)
    await until(lambda: waiter._candidate._sequence == 0)
    await asyncio.wait({waiting}, timeout=0.3)
    value = await jetstream.publish(f"$KV.{namespace}.orders.0", b'{"holder":"x","since":0,"host":"x","pid":1}')
    await jetstream.purge(f"KV_{namespace}", f"$KV.{namespace}.orders.0", value.sequence)
    deleted = clocks.elapsed()
    async with asyncio.timeout(30):
        await waiting
    assert clocks.elapsed() - deleted >= 1.0 and not holder.held()
    await waiter.release()


async def test_a_third_holder_learns_what_the_first_one_still_finishes(jetstream: JetStream, namespace: str) -> None:
    giver = await first_holder(jetstream, namespace)
    assert await giver.hand_over(["a"], 30.0)
    second, third = lease(jetstream, namespace, "second"), lease(jetstream, namespace, "third")
    await second.acquire()
    waiting = asyncio.create_task(third.acquire())
    await until(lambda: third.waiting)
    await second._stop_renewal()  # as if its process was killed
    async with asyncio.timeout(30):
        await waiting
    assert not third.clean and third.left is not None
    assert (third.left.holder, third.left.tokens) == ("first", ("a",))
    await asyncio.gather(third.release(), giver.release())


async def test_a_holder_that_was_slower_learns_it_although_it_sees_no_value_of_the_faster_one(
    jetstream: JetStream, namespace: str
) -> None:
    giver = await first_holder(jetstream, namespace)
    assert await giver.hand_over(["a"], 30.0)
    slower = Candidate("orders.0", 1.0, jetstream.connection.clock)
    assert slower.judge(await stored(jetstream, namespace), used=True) is not None
    slower.look_anew()  # as after an attempt that is refused, because the other one was faster
    faster = lease(jetstream, namespace, "faster")
    await faster.acquire()
    await faster._stop_renewal()  # as if its process was killed

    async with asyncio.timeout(30):
        while kind_of(last := await stored(jetstream, namespace)) is not Kind.EXPIRED:
            await asyncio.sleep(0.05)
    take_over = slower.judge(last, used=True)
    assert take_over is not None and not take_over.clean and take_over.left is not None
    assert (take_over.left.holder, take_over.left.tokens) == ("first", ("a",))
    await asyncio.gather(faster.release(), giver.release())


async def test_a_bucket_of_an_older_version_is_brought_in_line(jetstream: JetStream, namespace: str) -> None:
    older = msgspec.structs.replace(bucket_config(namespace), subject_delete_marker_ttl=msgspec.UNSET)
    await jetstream.ensure_stream(older)
    async with lease(jetstream, namespace, "holder"):
        config = (await jetstream.stream_info(f"KV_{namespace}")).config
    assert config["subject_delete_marker_ttl"] == bucket_config(namespace).subject_delete_marker_ttl
