"""Deliveries in hand: acknowledgements of messages that the server delivers again, watchers, and the end of a wait."""

import asyncio

from runtime.nats.jetstream.delivery import Delivery
from runtime.nats.jetstream.in_hand import InHand


class Owner:
    """The owner of deliveries that only `InHand` uses."""

    def finish(self, delivery: Delivery, payload: bytes) -> None:
        raise AssertionError

    def park(self, delivery: Delivery) -> bool:
        raise AssertionError

    def has(self, delivery: Delivery) -> bool:
        raise AssertionError

    def watch(self, delivery: Delivery) -> asyncio.Future[None]:
        raise AssertionError


def delivery(sequence: int) -> Delivery:
    return Delivery(Owner(), 0, b"s", b"reply-%d" % sequence, None, b"", sequence, 1)


def holding(*sequences: int) -> InHand:
    in_hand = InHand()
    for sequence in sequences:
        in_hand.deliveries[sequence] = delivery(sequence)
    return in_hand


def test_a_delivery_is_removed_once() -> None:
    in_hand = holding(1)
    assert list(in_hand.deliveries) == [1]
    assert in_hand.remove(1, b"+ACK") and not in_hand.remove(1, b"+ACK")
    assert not in_hand.is_known(1)


def test_a_redelivered_message_in_hand_takes_the_new_ack_subject() -> None:
    in_hand = holding(1, 2)
    in_hand.repositioned(delivered=0, ack_floor=0)
    assert in_hand.is_known(1) and in_hand.redelivered(1, b"new") is None
    assert [each.reply for each in in_hand.deliveries.values()] == [b"new", b"reply-2"]
    in_hand.remove(1, b"+ACK")
    assert not in_hand.is_known(1), "the server accepts an acknowledgement under the new subject"


def test_a_stale_delivery_keeps_its_acknowledgement_for_the_redelivery() -> None:
    in_hand = holding(1, 2)
    in_hand.repositioned(delivered=1, ack_floor=0)
    in_hand.remove(1, b"+ACK")
    in_hand.remove(2, b"-NAK")
    assert not in_hand.is_known(1), "the server has delivered it and accepts the acknowledgement"
    assert in_hand.is_known(2) and 2 not in in_hand.deliveries
    assert in_hand.redelivered(2, b"new") == b"-NAK"
    assert not in_hand.is_known(2)


def test_acknowledgements_below_the_ack_floor_are_dropped() -> None:
    in_hand = holding(1, 2)
    in_hand.repositioned(delivered=0, ack_floor=0)
    in_hand.remove(1, b"+ACK")
    in_hand.remove(2, b"+ACK")
    in_hand.repositioned(delivered=1, ack_floor=1)
    assert not in_hand.is_known(1) and in_hand.is_known(2)


async def test_a_watcher_wakes_up_at_the_end_or_when_it_is_woken() -> None:
    in_hand = holding(1, 2)
    first, second = in_hand.watch(1), in_hand.watch(2)
    in_hand.remove(1, b"+ACK")
    in_hand.wake_watcher(2)
    in_hand.wake_watcher(2)
    assert first.done() and second.done() and 2 in in_hand.deliveries


async def test_a_wait_ends_with_the_last_delivery() -> None:
    in_hand = holding(1, 2)
    waits = [asyncio.ensure_future(in_hand.wait_empty()) for _ in range(2)]
    await asyncio.sleep(0)
    in_hand.remove(1, b"+ACK")
    await asyncio.sleep(0)
    assert not any(wait.done() for wait in waits)
    in_hand.remove(2, b"+ACK")
    await asyncio.wait(waits)
    await in_hand.wait_empty()
