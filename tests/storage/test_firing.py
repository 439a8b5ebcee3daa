"""Timers that are fired before their time, also if they change meanwhile."""

import time
from collections.abc import AsyncIterator

import pytest

from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.nats.server import EmbeddedServer
from runtime.storage.firing import fire
from runtime.storage.streams import turns_config
from runtime.wire import header_block
from runtime.wire.cloudevents import rfc3339
from runtime.wire.subjects import Names

HOURLY, BERLIN = "@every 1h", "0 0 3 * * *"


@pytest.fixture
async def jetstream(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[JetStream]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream = JetStream(connection)
        await jetstream.ensure_stream(turns_config(Names("bell", namespace)))
        yield jetstream


@pytest.fixture
def names(namespace: str) -> Names:
    return Names("bell", namespace)


async def waiting(jetstream: JetStream, names: Names, pattern: str = "", zone: str = "") -> StoredMessage:
    """Store a timer that is due in an hour, or a schedule, and return it."""
    headers = [
        ("traceparent", "00-1-2-01"),
        ("Idempotency-Key", "id"),
        ("Actorloom-Command", "Ring"),
        ("Nats-Msg-Id", f"{pattern}{time.monotonic()}"),
        ("Nats-Schedule", pattern or f"@at {rfc3339(time.time() + 3600)}"),
        ("Nats-Schedule-Target", names.timer("k", "alarm")),
        *([("Nats-Schedule-Time-Zone", zone)] if zone else []),
        *([("Actorloom-Recurring", f"{zone} {pattern}" if zone else "1")] if pattern else []),
    ]
    subject = names.schedule("k", "alarm")
    await jetstream.publish(subject, b'{"key":"k"}', headers=header_block.encode(headers))
    stored = await jetstream.get_last(names.turns_stream, subject)
    assert stored is not None
    return stored


async def fired(jetstream: JetStream, names: Names) -> StoredMessage | None:
    return await jetstream.get_last(names.turns_stream, names.timer("k", "alarm"))


@pytest.mark.parametrize("pattern", ["", HOURLY, BERLIN])
async def test_a_firing_is_the_message_without_its_schedule(jetstream: JetStream, names: Names, pattern: str) -> None:
    stored = await waiting(jetstream, names, pattern)
    ack = await fire(jetstream, stored)
    found = await fired(jetstream, names)
    assert found is not None and ack is not None and found.sequence == ack.sequence and found.payload == stored.payload
    headers = header_block.parse(found.headers)
    kept = {"traceparent": "00-1-2-01", "Idempotency-Key": "id", "Actorloom-Command": "Ring"}
    assert {name: value for name, value in headers.items() if not name.startswith("Nats-")} == kept | (
        {"Actorloom-Recurring": "1"} if pattern else {}
    )
    assert not {"Nats-Schedule", "Nats-Schedule-Target", "Nats-Msg-Id"} & headers.keys()
    left = await jetstream.get_last(names.turns_stream, stored.subject)
    assert left == (stored if pattern else None), "a timer has fired, and a schedule stays"


@pytest.mark.parametrize("on_time", [True, False])
async def test_an_additional_firing_is_none_of_the_times_of_its_zone(
    jetstream: JetStream, names: Names, on_time: bool
) -> None:
    stored = await waiting(jetstream, names, BERLIN, "Europe/Berlin")
    await fire(jetstream, stored, on_time=on_time)
    found = await fired(jetstream, names)
    assert found is not None
    recurring = header_block.get(found.headers, header_block.TIMER_RECURRING)
    assert recurring == (f"Europe/Berlin {BERLIN}" if on_time else "1")


@pytest.mark.parametrize("pattern", ["", HOURLY])
@pytest.mark.parametrize("replaced", [True, False])
async def test_a_timer_that_was_replaced_or_cancelled_does_not_fire(
    jetstream: JetStream, names: Names, pattern: str, replaced: bool
) -> None:
    stored = await waiting(jetstream, names, pattern)
    await jetstream.purge(names.turns_stream, stored.subject, stored.sequence)
    later = await waiting(jetstream, names) if replaced else None
    assert await fire(jetstream, stored) is None
    assert await fired(jetstream, names) is None
    assert await jetstream.get_last(names.turns_stream, stored.subject) == later
