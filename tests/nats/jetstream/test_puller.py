"""The puller: bounded, in order, and robust against the loss of a consumer, a server or a delivery."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from runtime.errors import ActorError, ConfigurationError
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import SECOND, ConsumerConfig, StreamConfig
from runtime.nats.jetstream.delivery import Delivery, ack_fields
from runtime.nats.jetstream.errors import ApiError
from runtime.nats.jetstream.puller import Puller
from runtime.nats.server import EmbeddedServer


@pytest.fixture
async def jetstream(nats_server: EmbeddedServer) -> AsyncIterator[JetStream]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        yield JetStream(connection)


@pytest.fixture
async def stream(jetstream: JetStream, namespace: str) -> str:
    await jetstream.ensure_stream(StreamConfig(name=namespace, subjects=(f"{namespace}.>",)))
    return namespace


class Taken:
    """Records deliveries; keeps them in hand, or finishes each with `then`."""

    def __init__(self, then: Callable[[Delivery], None] | None = None) -> None:
        self.deliveries: list[Delivery] = []
        self.errors: list[ActorError] = []
        self._then = then
        self._news = asyncio.Event()

    def __call__(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        self._news.set()
        if self._then is not None:
            self._then(delivery)

    def failed(self, error: ActorError) -> None:
        self.errors.append(error)
        self._news.set()

    @property
    def sequences(self) -> list[int]:
        return [delivery.stream_sequence for delivery in self.deliveries]

    async def until(self, condition: Callable[[], bool], timeout: float = 15.0) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                self._news.clear()
                await self._news.wait()


async def eventually(condition: Callable[[], Awaitable[bool]], timeout: float = 15.0) -> None:
    async with asyncio.timeout(timeout):
        while not await condition():
            await asyncio.sleep(0.01)


async def store(jetstream: JetStream, stream: str, count: int) -> None:
    for number in range(count - 1):
        jetstream.connection.publish(f"{stream}.a", b"%d" % number)
    await jetstream.publish(f"{stream}.a", b"last")


async def ack_and_wait(jetstream: JetStream, delivery: Delivery) -> None:
    """Acknowledge `delivery` and return when the server has confirmed it."""
    await jetstream.connection.request(delivery.reply, b"+ACK", timeout=5.0)
    delivery.ack()


async def consumer(jetstream: JetStream, stream: str, ack_wait: float = 30.0) -> None:
    await jetstream.ensure_consumer(
        stream, ConsumerConfig(durable="c", ack_wait=int(ack_wait * SECOND), max_ack_pending=10_000)
    )


async def test_messages_are_delivered_in_order_and_acknowledged(jetstream: JetStream, stream: str) -> None:
    await store(jetstream, stream, 2000)
    await consumer(jetstream, stream)
    taken = Taken(Delivery.ack)
    puller = Puller(jetstream, stream, "c", taken, limit=64)
    await puller.start()
    await taken.until(lambda: len(taken.deliveries) == 2000)
    assert taken.sequences == list(range(1, 2001))
    first = taken.deliveries[0]
    assert (first.subject, first.headers, first.payload, first.delivered) == (f"{stream}.a".encode(), None, b"0", 1)
    assert ack_fields(first.reply)[4] == b"1999"
    stored = await jetstream.get(stream, 1)
    assert stored is not None and first.time == pytest.approx(stored.time, abs=1e-5)
    await store(jetstream, stream, 5)
    await taken.until(lambda: len(taken.deliveries) == 2005)
    await puller.stop()
    assert puller.in_hand == 0

    async def all_acknowledged() -> bool:
        info = await jetstream.consumer_info(stream, "c")
        return info.ack_floor.stream_seq == 2005 and info.num_ack_pending == 0

    await eventually(all_acknowledged)
    assert taken.errors == []


async def test_the_limit_is_never_exceeded_and_no_free_place_stays_unused(jetstream: JetStream, stream: str) -> None:
    await store(jetstream, stream, 100)
    await consumer(jetstream, stream)
    in_hand: list[int] = []
    taken = Taken(lambda delivery: in_hand.append(puller.in_hand))
    puller = Puller(jetstream, stream, "c", taken, limit=5)
    await puller.start()
    await taken.until(lambda: len(taken.deliveries) == 5)
    # Four stay in hand; the one free place must serve all other messages.
    for count in range(6, 101):
        await jetstream.connection.flush()
        taken.deliveries[-1].ack()
        await taken.until(lambda: len(taken.deliveries) == count)  # noqa: B023
    assert max(in_hand) == 5
    await puller.stop()


async def test_places_that_are_freed_while_a_request_is_open_are_filled(jetstream: JetStream, stream: str) -> None:
    await store(jetstream, stream, 10)
    await consumer(jetstream, stream)
    taken = Taken()
    puller = Puller(jetstream, stream, "c", taken, limit=4)
    await puller.start()
    await taken.until(lambda: len(taken.deliveries) == 4)
    # The second acknowledgement causes a request for two messages; the third frees a place beyond it.
    for delivery in taken.deliveries[:3]:
        delivery.ack()
    await taken.until(lambda: len(taken.deliveries) == 7)
    assert puller.in_hand == 4
    await puller.stop()


async def test_a_message_that_is_given_back_is_delivered_after_the_delay(jetstream: JetStream, stream: str) -> None:
    await store(jetstream, stream, 1)
    await consumer(jetstream, stream)
    loop = asyncio.get_running_loop()
    times: list[float] = []

    def fail_twice(delivery: Delivery) -> None:
        times.append(loop.time())
        if delivery.delivered < 3:
            delivery.nak(0.2)
        else:
            delivery.ack()

    taken = Taken(fail_twice)
    puller = Puller(jetstream, stream, "c", taken)
    await puller.start()
    await taken.until(lambda: len(taken.deliveries) == 3)
    assert [delivery.delivered for delivery in taken.deliveries] == [1, 2, 3]
    assert times[1] - times[0] >= 0.2
    await puller.stop()


async def test_a_terminated_message_is_never_delivered_again(jetstream: JetStream, stream: str) -> None:
    await store(jetstream, stream, 2)
    await consumer(jetstream, stream, ack_wait=0.2)
    advisories: list[bytes] = []
    arrived = asyncio.Event()

    def advised(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        advisories.append(payload)
        arrived.set()

    await jetstream.connection.subscribe(f"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{stream}.c", advised)
    taken = Taken(lambda delivery: delivery.term("poison") if delivery.stream_sequence == 1 else delivery.ack())
    puller = Puller(jetstream, stream, "c", taken)
    await puller.start()
    async with asyncio.timeout(30):
        await arrived.wait()
    assert b"poison" in advisories[0]

    async def done() -> bool:
        return (await jetstream.consumer_info(stream, "c")).ack_floor.stream_seq == 2

    await eventually(done)
    assert taken.sequences == [1, 2]
    await puller.stop()


async def test_a_finished_delivery_stays_finished(jetstream: JetStream, stream: str) -> None:
    await store(jetstream, stream, 1)
    await consumer(jetstream, stream)
    taken = Taken()
    puller = Puller(jetstream, stream, "c", taken)
    await puller.start()
    await taken.until(lambda: len(taken.deliveries) == 1)
    await ack_and_wait(jetstream, taken.deliveries[0])
    assert (await jetstream.consumer_info(stream, "c")).ack_floor.stream_seq == 1
    assert puller.in_hand == 0
    taken.deliveries[0].nak()
    assert puller.in_hand == 0
    await puller.stop()


async def test_a_message_that_is_in_hand_for_long_is_not_delivered_again(jetstream: JetStream, stream: str) -> None:
    await store(jetstream, stream, 3)
    await consumer(jetstream, stream, ack_wait=1.5)
    taken = Taken()
    puller = Puller(jetstream, stream, "c", taken)
    other = Taken()
    rival = Puller(jetstream, stream, "c", other)
    await puller.start()
    await taken.until(lambda: len(taken.deliveries) == 3)
    await rival.start()
    loop = asyncio.get_running_loop()
    until = loop.time() + 2.5
    await eventually(lambda: _past(until))
    await puller.stop()
    until = loop.time() + 2.0
    await eventually(lambda: _past(until))
    assert puller.in_hand == 3 and other.deliveries == []
    for delivery in taken.deliveries:
        delivery.ack()
    async with asyncio.timeout(30):
        await puller.wait_idle()
    assert other.deliveries == [] and taken.sequences == [1, 2, 3]
    await rival.stop()


async def _past(time: float) -> bool:
    return asyncio.get_running_loop().time() > time


async def test_messages_that_arrive_after_stop_are_given_back(
    jetstream: JetStream, stream: str, nats_server: EmbeddedServer
) -> None:
    await consumer(jetstream, stream)
    taken, other = Taken(), Taken(Delivery.ack)
    puller = Puller(jetstream, stream, "c", taken, limit=100)
    await puller.start()
    await jetstream.connection.flush()
    # The messages are delivered to the socket while this event loop is blocked, so the puller has not seen them at its stop.
    subprocess.run(  # noqa: ASYNC221 - the event loop is to be blocked
        [sys.executable, "-c", DELIVER, nats_server.url, stream], check=True, timeout=30
    )
    assert taken.deliveries == []
    await puller.stop()
    assert taken.deliveries == [] and puller.in_hand == 0
    rival = Puller(jetstream, stream, "c", other, limit=100)
    await rival.start()
    await other.until(lambda: len(other.deliveries) == 100, timeout=10)
    assert sorted(other.sequences) == list(range(1, 101))
    await rival.stop()


DELIVER = """
import asyncio, sys
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream

async def main(url, stream):
    async with await Connection.connect(ConnectionOptions(url=url)) as connection:
        jetstream = JetStream(connection)
        for _ in range(100):
            await jetstream.publish(f"{stream}.a", b"")
        while (await jetstream.consumer_info(stream, "c")).num_ack_pending < 100:
            pass

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_deleted_consumer_is_reported_and_the_pull_continues_when_it_is_back(
    jetstream: JetStream, stream: str
) -> None:
    await consumer(jetstream, stream)
    taken = Taken(Delivery.ack)
    puller = Puller(jetstream, stream, "c", taken, on_error=taken.failed)
    await puller.start()
    await store(jetstream, stream, 1)
    await taken.until(lambda: len(taken.deliveries) == 1)
    await jetstream.delete_consumer(stream, "c")
    await taken.until(lambda: len(taken.errors) >= 2)
    assert "Consumer Deleted" in str(taken.errors[0])
    assert "consumer not found" in str(taken.errors[1])
    # The puller continues to try, and reports this once.
    await eventually(lambda: _tries(puller, 4))
    assert len(taken.errors) == 2
    await jetstream.ensure_consumer(
        stream, ConsumerConfig(durable="c", deliver_policy="by_start_sequence", opt_start_seq=2)
    )
    await store(jetstream, stream, 1)
    await taken.until(lambda: len(taken.deliveries) == 2)
    await puller.stop()


async def _tries(puller: Puller, count: int) -> bool:
    return puller._recovery.attempts >= count


async def test_a_puller_without_a_consumer_does_not_start(jetstream: JetStream, stream: str) -> None:
    before = list(jetstream.connection.on_reconnect)
    puller = Puller(jetstream, stream, "none", Taken())
    with pytest.raises(ApiError, match="consumer not found"):
        await puller.start()
    assert jetstream.connection.on_reconnect == before
    with pytest.raises(ConfigurationError, match="limit 0"):
        Puller(jetstream, stream, "none", Taken(), limit=0)


async def test_a_silent_server_gets_a_new_request(jetstream: JetStream, stream: str) -> None:
    await consumer(jetstream, stream)
    taken = Taken(Delivery.ack)
    puller = Puller(jetstream, stream, "c", taken, on_error=taken.failed, heartbeat=0.1, expires=0.5)
    await puller.start()
    # The server loses the subscription, as a route or a leaf node may, and delivers nothing.
    subscription = puller._subscription
    assert subscription is not None
    subscription.unsubscribe()
    await store(jetstream, stream, 3)
    await taken.until(lambda: len(taken.deliveries) == 3)
    assert "no heartbeat" in str(taken.errors[0])
    await puller.stop()


async def test_a_handler_that_raises_gives_the_message_back(
    jetstream: JetStream, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    await store(jetstream, stream, 1)
    await consumer(jetstream, stream)

    def raise_once(delivery: Delivery) -> None:
        if delivery.delivered == 1:
            raise RuntimeError("broken")
        delivery.ack()

    taken = Taken(raise_once)
    puller = Puller(jetstream, stream, "c", taken)
    await puller.start()
    await taken.until(lambda: len(taken.deliveries) == 2)
    assert puller.in_hand == 0
    assert "broken" in caplog.text
    await puller.stop()


async def test_a_new_owner_gets_the_messages_of_the_old_one_at_once_and_in_order(
    jetstream: JetStream, stream: str
) -> None:
    await store(jetstream, stream, 20)
    await consumer(jetstream, stream)
    taken, other = Taken(), Taken(Delivery.ack)
    old = Puller(jetstream, stream, "c", taken, limit=10, exclusive=True)
    await old.start()
    await taken.until(lambda: len(taken.deliveries) == 10)
    for delivery in taken.deliveries[:3]:
        await ack_and_wait(jetstream, delivery)
    await ack_and_wait(jetstream, taken.deliveries[6])
    await old.stop()
    new = Puller(jetstream, stream, "c", other, limit=10, exclusive=True)
    await new.start()
    # The timeout is less than the thirty seconds of ack_wait.
    await other.until(lambda: len(other.deliveries) >= 17, timeout=20)
    assert other.sequences == list(range(4, 21))
    await new.stop()


@pytest.mark.parametrize("more", [0, 5])
async def test_messages_that_went_to_an_abandoned_request_are_delivered_at_once_and_in_order(
    jetstream: JetStream, stream: str, more: int
) -> None:
    """After a connection vanishes, the server still has its request, and serves that one first."""
    await consumer(jetstream, stream)
    abandoned: list[bytes] = []
    await jetstream.connection.subscribe("_INBOX.abandoned", lambda *message: abandoned.append(message[3]))
    request = b'{"batch":2,"expires":5000000000}'
    jetstream.connection.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.c", request, reply=b"_INBOX.abandoned")
    taken = Taken(lambda delivery: delivery.ack())
    puller = Puller(jetstream, stream, "c", taken, exclusive=True, expires=1.0, heartbeat=0.2, on_error=taken.failed)
    await puller.start()
    await store(jetstream, stream, 2 + more)
    await taken.until(lambda: len(taken.sequences) >= 2 + more)
    assert len(abandoned) == 2 and taken.sequences == list(range(1, 3 + more))
    await puller.stop()


async def test_messages_stay_in_order_if_another_process_resets_the_consumer(
    nats_server: EmbeddedServer, jetstream: JetStream, stream: str
) -> None:
    """The consumer then numbers its deliveries from one, and reaches our count amid deliveries that are not next for us."""
    await consumer(jetstream, stream)
    taken = Taken()
    puller = Puller(jetstream, stream, "c", taken, limit=20, exclusive=True, on_error=taken.failed)
    await puller.start()
    await store(jetstream, stream, 5)
    await taken.until(lambda: len(taken.deliveries) == 5)
    for delivery in taken.deliveries[:3]:
        await ack_and_wait(jetstream, delivery)

    async def reset_and_store() -> None:
        async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
            other = JetStream(connection)
            await other.reset_consumer(stream, "c")
            await store(other, stream, 7)

            async def all_sent() -> bool:
                return (await other.consumer_info(stream, "c")).delivered.consumer_seq == 9

            await eventually(all_sent)

    # Messages four and five are delivered again as numbers one and two, so message nine is number six, the next one by
    # our count. This event loop is blocked meanwhile, and then finds all deliveries at once.
    thread = threading.Thread(target=lambda: asyncio.run(reset_and_store()))
    thread.start()
    thread.join()
    await taken.until(lambda: set(taken.sequences) == set(range(1, 13)))
    assert taken.sequences == list(range(1, 13))
    await puller.stop()


async def test_a_reset_of_a_new_consumer_changes_nothing(jetstream: JetStream, stream: str) -> None:
    await store(jetstream, stream, 3)
    await jetstream.ensure_consumer(stream, ConsumerConfig(durable="c", deliver_policy="new"))
    puller = Puller(jetstream, stream, "c", Taken())
    before = await jetstream.consumer_info(stream, "c")
    after = await puller.reset()
    assert after.ack_floor.stream_seq == before.ack_floor.stream_seq == 3
    assert after.config == before.config and after.num_pending == 0


async def test_a_reset_asks_once_for_the_place_of_the_consumer(
    jetstream: JetStream, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(jetstream, stream, 1)
    await consumer(jetstream, stream)
    taken, asked = Taken(), 0
    former = Puller(jetstream, stream, "c", taken)
    await former.start()
    await taken.until(lambda: taken.sequences == [1])
    await former.stop()
    ask = jetstream.consumer_info

    async def counted(*arguments: str) -> object:
        nonlocal asked
        asked += 1
        return await ask(arguments[0], arguments[1])

    monkeypatch.setattr(jetstream, "consumer_info", counted)
    await Puller(jetstream, stream, "c", Taken()).reset()
    assert asked == 1


@pytest.mark.parametrize("exclusive", [False, True])
async def test_no_message_is_lost_when_the_server_is_killed(tmp_path: Path, exclusive: bool) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path, sync_always=True) as server:
        options = ConnectionOptions(url=server.url)
        async with await Connection.connect(options) as connection:
            jetstream = JetStream(connection, timeout=1.0)
            await jetstream.ensure_stream(StreamConfig(name="s", subjects=("s.>",)))
            await consumer(jetstream, "s", ack_wait=1.0)
            await store(jetstream, "s", 300)
            taken = Taken()
            puller = Puller(jetstream, "s", "c", taken, limit=20, exclusive=exclusive, on_error=taken.failed)
            await puller.start()
            await taken.until(lambda: len(taken.deliveries) == 20)
            for delivery in taken.deliveries[:5]:
                await ack_and_wait(jetstream, delivery)
            await taken.until(lambda: len(taken.deliveries) == 25)
            in_hand = taken.deliveries[5:]
            server.kill()
            await server.start()
            await connection.wait_connected(10)
            taken.deliveries = []
            taken._then = Delivery.ack
            for delivery in in_hand:
                delivery.ack()
            await taken.until(lambda: set(taken.sequences) | {d.stream_sequence for d in in_hand} >= set(range(6, 301)))
            assert puller.in_hand == 0
            if exclusive:
                assert taken.sequences == sorted(taken.sequences)

            async def all_acknowledged() -> bool:
                return (await jetstream.consumer_info("s", "c")).ack_floor.stream_seq == 300

            await eventually(all_acknowledged)
            await puller.stop()


async def test_messages_in_hand_during_a_reconnect_are_not_delivered_twice(tmp_path: Path) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path, sync_always=True) as server:
        async with await Connection.connect(ConnectionOptions(url=server.url)) as connection:
            jetstream = JetStream(connection, timeout=1.0)
            await jetstream.ensure_stream(StreamConfig(name="s", subjects=("s.>",)))
            await consumer(jetstream, "s")
            await store(jetstream, "s", 10)
            taken = Taken()
            puller = Puller(jetstream, "s", "c", taken, limit=10, exclusive=True)
            await puller.start()
            await taken.until(lambda: len(taken.deliveries) == 10)
            inbox = puller._inbox
            server.kill()
            await server.start()
            await connection.wait_connected(10)
            await eventually(lambda: _is_pulling_again(puller, inbox))
            # Some are finished before the server delivers them again, some after. None is delivered to the function again.
            for delivery in taken.deliveries[:6]:
                delivery.ack()
            await store(jetstream, "s", 3)
            await eventually(lambda: _are_in_hand(jetstream, 7))
            for delivery in taken.deliveries[6:]:
                delivery.ack()
            await taken.until(lambda: len(taken.deliveries) == 13)
            assert taken.sequences == list(range(1, 14))
            for delivery in taken.deliveries:
                delivery.ack()
            await eventually(lambda: _are_in_hand(jetstream, 0))
            assert taken.sequences == list(range(1, 14))
            await puller.stop()


async def _is_pulling_again(puller: Puller, inbox: bytes) -> bool:
    return puller._inbox != inbox and not puller._recovery.active


async def _are_in_hand(jetstream: JetStream, count: int) -> bool:
    info = await jetstream.consumer_info("s", "c")
    return info.num_ack_pending == count and info.num_pending == 0


async def test_a_message_that_is_redelivered_while_in_hand_is_given_back_under_its_newest_ack_subject(
    tmp_path: Path,
) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path) as server:
        async with await Connection.connect(ConnectionOptions(url=server.url)) as connection:
            jetstream = JetStream(connection, timeout=1.0)
            await jetstream.ensure_stream(StreamConfig(name="s", subjects=("s.>",)))
            await consumer(jetstream, "s")
            await store(jetstream, "s", 10)
            taken = Taken()
            puller = Puller(jetstream, "s", "c", taken, limit=20, exclusive=True)
            await puller.start()
            await taken.until(lambda: len(taken.deliveries) == 10)
            for delivery in taken.deliveries[:5]:
                await ack_and_wait(jetstream, delivery)
            last = taken.deliveries[9]
            old = last.reply
            await server.stop()
            await server.start()
            await connection.wait_connected(10)
            await eventually(lambda: _has_new_reply(last, old))
            assert taken.sequences == list(range(1, 11))
            # The server would not accept the old ack subject: it numbers its deliveries from one again.
            last.nak()
            await taken.until(lambda: len(taken.deliveries) == 11)
            assert (taken.deliveries[10].stream_sequence, taken.deliveries[10].delivered) == (10, 2)
            await puller.stop()


async def _has_new_reply(delivery: Delivery, old: bytes) -> bool:
    return delivery.reply != old
