"""Timers of one name and two owners: what one publishes or takes back that was paused, changes nothing that came after."""

import time
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from runtime.nats.server import EmbeddedServer
from runtime.storage.key import StoredKey
from runtime.storage.record import NO_REPLY, Kind, Outgoing, decode_record
from runtime.storage.relay import Relay
from runtime.wire import header_block
from runtime.wire.ids import new_id
from tests.intake.test_timers import Bells, CancelAlarm, Ring, SetAlarm, left, until_notes
from tests.support.probe import Probe, running

Left = tuple[list[Outgoing], int]
"""What a record has to publish, and its sequence."""

ALARM, CANCELLED = SetAlarm("k", 60.0, "", "alarm"), CancelAlarm("k", "alarm")


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Probe]:
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        yield system


def paused(system: Probe, owns: Callable[[], bool] = lambda: True) -> Relay:
    """The relay of a former owner, which has just woken up."""
    served = system.served("bell")
    return Relay(served.jetstream, served.names, served.tracer, owns)


async def publish(relay: Relay, left: Left) -> None:
    relay.send(StoredKey("k", "k"), *left)
    await relay.wait_idle()


async def after(system: Probe, message: SetAlarm | CancelAlarm) -> Left:
    """Handle a command; return what its record had to publish, once that is published."""
    await system.bus.command(message)
    stored = await system.stored_turn("bell", "k")
    assert stored is not None
    await system.wait_published("bell")
    return decode_record(stored.payload, stored.subject).outbox, stored.sequence


async def standing(system: Probe) -> str | None:
    """Return the id of the timer that waits."""
    names = system.served("bell").names
    stored = await system.jetstream.get_last(names.turns_stream, names.schedule("k", "alarm"))
    return None if stored is None else header_block.get(stored.headers, header_block.IDEMPOTENCY_KEY)


def timer(kind: Kind) -> Outgoing:
    """Something for the alarm in an outbox: a timer for later or for now, or a cancelling."""
    body = NO_REPLY if kind is Kind.CANCEL else msgspec.Raw(msgspec.json.encode(Ring("k", "x")))
    return Outgoing(new_id(), kind, "Ring", "k", body, time.time() + 60, timer="alarm")


def renamed(left: Left) -> Left:
    """As after the server's window: it does not know the ids any more."""
    return [msgspec.structs.replace(entry, id=new_id()) for entry in left[0]], left[1]


async def test_what_is_published_again_by_one_that_stops_meanwhile_stays(
    system: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = await after(system, ALARM)
    relay, jetstream = paused(system), system.served("bell").jetstream
    told_of = jetstream.publish_callback

    def stopping(subject: str, payload: bytes, headers: bytes, told: Callable[[int, Exception | None], None]) -> None:
        def answered(sequence: int, error: Exception | None) -> None:
            told(sequence, error)
            relay.stop()

        told_of(subject, payload, headers, answered)

    monkeypatch.setattr(jetstream, "publish_callback", stopping)
    await publish(relay, known)
    assert await standing(system) == known[0][0].id


@pytest.mark.parametrize("forgotten", [False, True])
async def test_a_timer_of_before_does_not_replace_a_later_one(system: Probe, forgotten: bool) -> None:
    former = await after(system, ALARM)
    [later], _ = await after(system, ALARM)
    await publish(paused(system), renamed(former) if forgotten else former)
    assert await standing(system) == later.id


async def test_a_cancelling_of_before_does_not_take_back_what_came_after(system: Probe) -> None:
    await after(system, ALARM)
    cancelled = await after(system, CANCELLED)
    assert await standing(system) is None
    [later], _ = await after(system, ALARM)
    await publish(paused(system), cancelled)
    assert await standing(system) == later.id


async def test_a_timer_that_was_cancelled_is_not_set_again(system: Probe, namespace: str) -> None:
    known = await after(system, ALARM)
    await after(system, CANCELLED)
    await publish(paused(system), known)
    assert await left(system, namespace) == []


@pytest.mark.parametrize("kinds", ["xs", "ss", "sx", "sxs", "st"])
async def test_one_record_with_several_of_a_name_is_the_same_twice(system: Probe, kinds: str) -> None:
    _, sequence = await after(system, ALARM)
    outbox = [timer(Kind(letter)) for letter in kinds]
    for _ in range(2):
        await publish(paused(system), (outbox, sequence + 1))
        assert await standing(system) == (outbox[-1].id if kinds[-1] == "s" else None)
    if "t" in kinds:
        await until_notes(system, "k", "x")


async def test_a_later_timer_replaces_one_that_was_stored_late(system: Probe) -> None:
    """A lagging relay, or another process of an actor without state, has stored it after the record of the later one."""
    later = timer(Kind.SCHEDULE)
    await publish(paused(system), ([timer(Kind.SCHEDULE)], 1))
    await publish(paused(system), ([later], 2))
    assert await standing(system) == later.id
    await publish(paused(system), ([timer(Kind.SCHEDULE)], 1))
    assert await standing(system) == later.id


async def test_who_does_not_own_its_keys_publishes_nothing(system: Probe) -> None:
    entry = timer(Kind.SCHEDULE)
    relay = paused(system, owns=lambda: False)
    await publish(relay, ([entry], 1))  # and is quiet
    await system.connection.flush()
    assert await standing(system) is None and not relay.published
    assert await relay.recover() == 0 and not relay.checkpoint.tracking
    await publish(paused(system), ([entry], 1))
    assert await standing(system) == entry.id
