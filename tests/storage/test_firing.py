"""The firing of a waiting timer before its time, on a real server: what is stored, and what an owner may do meanwhile."""

import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.nats.server import EmbeddedServer
from runtime.storage.firing import fire
from runtime.storage.record import SCHEDULE, Outgoing
from runtime.storage.schedules import timer_headers
from runtime.storage.streams import turns_config
from runtime.wire import header_block
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names


class Clockwork:
    """The stream of an actor, and the timers that its relay would store."""

    def __init__(self, jetstream: JetStream, names: Names) -> None:
        self.jetstream = jetstream
        self.names = names

    async def set(self, name: str, body: bytes, *, every: str = "", zone: str = "") -> StoredMessage:
        due = time.time() + 3600
        entry = Outgoing(
            new_id(), SCHEDULE, "Ring", "key", msgspec.Raw(body), due, timer=name, schedule=every, zone=zone
        )
        trace = header_block.line(header_block.TRACEPARENT, b"00-%032x-%016x-01" % (1, 2))
        subject = self.names.schedule("key", name)
        await self.jetstream.publish(subject, body, headers=timer_headers(self.names, entry, 7, trace))
        stored = await self.waiting(name)
        assert stored is not None
        return stored

    async def cancel(self, name: str, sequence: int) -> None:
        await self.jetstream.purge(self.names.turns_stream, self.names.schedule("key", name), sequence)

    async def waiting(self, name: str) -> StoredMessage | None:
        return await self.jetstream.get_last(self.names.turns_stream, self.names.schedule("key", name))

    async def fired(self, name: str) -> StoredMessage | None:
        return await self.jetstream.get_last(self.names.turns_stream, self.names.timer("key", name))


@pytest.fixture
async def clockwork(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Clockwork]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream, names = JetStream(connection), Names("clock", namespace)
        await jetstream.ensure_stream(turns_config(names))
        yield Clockwork(jetstream, names)


async def test_a_timer_that_fires_once_is_gone(clockwork: Clockwork) -> None:
    stored = await clockwork.set("once", b'{"a":1}')
    assert await fire(clockwork.jetstream, stored)
    assert await clockwork.waiting("once") is None
    fired = await clockwork.fired("once")
    assert fired is not None and fired.payload == b'{"a":1}'
    headers = header_block.parse(fired.headers)
    assert headers["Actorloom-Command"] == "Ring" and headers["Idempotency-Key"] == header_block.get(
        stored.headers, header_block.IDEMPOTENCY_KEY
    )
    assert headers["traceparent"].startswith("00-") and headers["Actorloom-Turn"] == "7"
    assert not [name for name in headers if name in ("Nats-Msg-Id", "Nats-Schedule", "Nats-Schedule-Target")]
    assert not await fire(clockwork.jetstream, stored), "a timer fires once"


@pytest.mark.parametrize(("every", "zone"), [("@every 1h", ""), ("0 0 3 * * *", "Europe/Berlin")])
async def test_a_schedule_stays_and_each_firing_is_another_one(clockwork: Clockwork, every: str, zone: str) -> None:
    stored = await clockwork.set("often", b"{}", every=every, zone=zone)
    sequences: set[int] = set()
    for _ in range(2):
        assert await fire(clockwork.jetstream, stored)
        fired = await clockwork.fired("often")
        assert fired is not None
        # Not the zone and the pattern: with them, it would have the id of the latest regular firing.
        assert header_block.get(fired.headers, header_block.TIMER_RECURRING) == "1"
        assert header_block.get(fired.headers, b"Nats-Schedule-Time-Zone") is None
        sequences.add(fired.sequence)
    assert len(sequences) == 2
    assert await clockwork.waiting("often") == stored


async def test_a_timer_that_was_replaced_or_cancelled_does_not_fire(clockwork: Clockwork) -> None:
    for name, every in (("once", ""), ("often", "@every 1h")):
        stored = await clockwork.set(name, b"old", every=every)
        await clockwork.cancel(name, stored.sequence)
        assert not await fire(clockwork.jetstream, stored)
        newer = await clockwork.set(name, b"new", every=every)
        assert not await fire(clockwork.jetstream, stored)
        assert await clockwork.fired(name) is None
        assert await clockwork.waiting(name) == newer, "the timer that has its name stays"
