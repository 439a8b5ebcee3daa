"""Timers of one name and two owners: a former owner that was paused changes no timer that was set after its own."""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from runtime.nats.server import EmbeddedServer
from runtime.storage.key import StoredKey
from runtime.storage.record import NO_STATE, Kind, Outgoing, decode_record
from runtime.storage.relay import Relay
from runtime.storage.unreadable import UnreadableRecords
from runtime.wire import header_block
from runtime.wire.ids import new_id
from tests.intake.test_timers import Bells, CancelAlarm, Ring, SetAlarm, stored_timers, until_notes
from tests.support.probe import Probe, running

Outbox = tuple[list[Outgoing], int]
"""The entries of a record, and its sequence."""

ALARM, CANCEL = SetAlarm("k", 60.0, "", "alarm"), CancelAlarm("k", "alarm")


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Probe]:
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        yield system


def former_owner(system: Probe, owns: Callable[[], bool] = lambda: True) -> Relay:
    """Return the relay of a former owner that has just woken up."""
    served = system.served("bell")
    return Relay(served.jetstream, served.names, served.tracer, owns, UnreadableRecords("shop"), served.bursts)


async def publish(relay: Relay, outbox: Outbox) -> None:
    relay.send(StoredKey("k", "k"), *outbox)
    await relay.wait_idle()


async def outbox_of(system: Probe, message: SetAlarm | CancelAlarm) -> Outbox:
    """Handle a command; return the outbox of its record, once it is published."""
    await system.bus.command(message)
    stored = await system.stored_turn("bell", "k")
    assert stored is not None
    await system.wait_published("bell")
    return decode_record(stored.payload, stored.subject).outbox, stored.sequence


async def waiting_timer(system: Probe) -> str | None:
    """Return the id of the waiting timer, or None."""
    names = system.served("bell").names
    stored = await system.jetstream.get_last(names.turns_stream, names.schedule("k", "alarm"))
    return None if stored is None else header_block.get(stored.headers, header_block.IDEMPOTENCY_KEY)


def timer(kind: Kind) -> Outgoing:
    """Return an outbox entry that sets or cancels the alarm."""
    body = NO_STATE if kind is Kind.CANCEL else msgspec.Raw(msgspec.json.encode(Ring("k", "x")))
    return Outgoing(new_id(), kind, "Ring", "k", body, time.time() + 60, timer="alarm")


def with_new_ids(outbox: Outbox) -> Outbox:
    """Return the outbox as the server sees it after its duplicate window: it no longer knows the ids."""
    return [msgspec.structs.replace(entry, id=new_id()) for entry in outbox[0]], outbox[1]


async def test_a_timer_survives_a_former_owner_that_stops_while_it_publishes_it_again(
    system: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = await outbox_of(system, ALARM)
    relay, jetstream = former_owner(system), system.served("bell").jetstream
    publish_callback = jetstream.publish_callback

    def stopping(
        subject: str, payload: bytes, headers: bytes, callback: Callable[[int, Exception | None], None]
    ) -> None:
        def on_reply(sequence: int, error: Exception | None) -> None:
            callback(sequence, error)
            relay.stop()

        publish_callback(subject, payload, headers, on_reply)

    monkeypatch.setattr(jetstream, "publish_callback", stopping)
    await publish(relay, known)
    assert await waiting_timer(system) == known[0][0].id


@pytest.mark.parametrize("window_is_over", [False, True])
async def test_an_earlier_timer_does_not_replace_a_later_one(system: Probe, window_is_over: bool) -> None:
    former = await outbox_of(system, ALARM)
    [later], _ = await outbox_of(system, ALARM)
    await publish(former_owner(system), with_new_ids(former) if window_is_over else former)
    assert await waiting_timer(system) == later.id


async def test_an_earlier_cancellation_does_not_take_back_a_later_timer(system: Probe) -> None:
    await outbox_of(system, ALARM)
    canceled = await outbox_of(system, CANCEL)
    assert await waiting_timer(system) is None
    [later], _ = await outbox_of(system, ALARM)
    await publish(former_owner(system), canceled)
    assert await waiting_timer(system) == later.id


async def test_a_canceled_timer_is_not_set_again(system: Probe, namespace: str) -> None:
    known = await outbox_of(system, ALARM)
    await outbox_of(system, CANCEL)
    await publish(former_owner(system), known)
    assert await stored_timers(system, namespace) == []


@pytest.mark.parametrize("kinds", ["xs", "ss", "sx", "sxs", "st"])
async def test_an_outbox_with_several_entries_of_one_name_can_be_published_twice(system: Probe, kinds: str) -> None:
    _, sequence = await outbox_of(system, ALARM)
    outbox = [timer(Kind(letter)) for letter in kinds]
    for _ in range(2):
        await publish(former_owner(system), (outbox, sequence + 1))
        assert await waiting_timer(system) == (outbox[-1].id if kinds[-1] == "s" else None)
    if "t" in kinds:
        await until_notes(system, "k", "x")


@pytest.mark.parametrize("later", [ALARM, CANCEL], ids=["replaced", "cancelled"])
async def test_a_record_leaves_out_the_timers_that_a_later_turn_replaces_or_cancels(
    system: Probe, monkeypatch: pytest.MonkeyPatch, later: SetAlarm | CancelAlarm
) -> None:
    """A new owner would set them again if the server had forgotten their ids, which it does as it starts."""
    jetstream, held = system.served("bell").jetstream, list[tuple[Any, ...]]()
    publish_callback = jetstream.publish_callback

    def holding(*message: Any) -> None:
        if ".schedule." in message[0]:
            held.append(message)
        else:
            publish_callback(*message)

    with monkeypatch.context() as patch:
        patch.setattr(jetstream, "publish_callback", holding)
        await system.bus.command(ALARM)
        await system.bus.command(later)
    stored = await system.stored_turn("bell", "k")
    assert stored is not None
    [entry] = decode_record(stored.payload, stored.subject).outbox
    [first] = held
    publish_callback(*first)
    await system.wait_published("bell")
    assert await waiting_timer(system) == (entry.id if later is ALARM else None)


async def test_a_later_timer_replaces_one_that_was_stored_late(system: Probe) -> None:
    """A slow relay, or another process of an actor without state, has stored the earlier timer late."""
    later = timer(Kind.SCHEDULE)
    await publish(former_owner(system), ([timer(Kind.SCHEDULE)], 1))
    await publish(former_owner(system), ([later], 2))
    assert await waiting_timer(system) == later.id
    await publish(former_owner(system), ([timer(Kind.SCHEDULE)], 1))
    assert await waiting_timer(system) == later.id


async def test_a_relay_publishes_nothing_if_the_keys_are_lost(system: Probe) -> None:
    entry = timer(Kind.SCHEDULE)
    relay = former_owner(system, owns=lambda: False)
    await publish(relay, ([entry], 1))  # returns, since the relay has stopped
    await system.connection.flush()
    assert await waiting_timer(system) is None and not relay.published
    assert await relay.recover() == 0 and not relay.checkpoint.tracking
    await publish(former_owner(system), ([entry], 1))
    assert await waiting_timer(system) == entry.id
