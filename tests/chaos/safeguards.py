"""Safeguards of the runtime that a control run switches off, by patching its process at the start.

A control run must then find the lost effects, double effects or disorder that the safeguard prevents.
"""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

from runtime import clocks
from runtime.errors import NotDelivered
from runtime.host.drain import Drain
from runtime.host.view import View
from runtime.intake.durables import Durables
from runtime.intake.event_work import EventWork
from runtime.intake.hand_on import HandOn
from runtime.intake.lists import MergedLists, Part
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.puller import Puller
from runtime.nats.jetstream.responses import ConsumerInfo, StoredMessage
from runtime.nats.lease import Lease
from runtime.nats.lease_take_over import Candidate
from runtime.router import routing
from runtime.storage import outbox_messages, relay
from runtime.storage.checkpoint import Checkpoint
from runtime.storage.dead_letters import DeadLetters
from runtime.storage.dedup import DedupStore
from runtime.storage.fence import Fence
from runtime.storage.key import StoredKey
from runtime.storage.record import Outgoing
from runtime.storage.relay import Relay
from runtime.turns import attempt
from runtime.turns.attempt import Attempts
from runtime.turns.copies import Copies
from runtime.turns.nested import NestedRequests
from runtime.wire.ids import new_id
from runtime.wire.server_clock import ServerClock
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token

_EXPECTED = re.compile(rb"Nats-Expected-Last-Subject-Sequence: \d+\r\n")
_MESSAGE_ID = re.compile(rb"Nats-Msg-Id: [^\r]*\r\n")


def switch_off(safeguard: str) -> None:
    """Switch off one of `SAFEGUARDS` in this process."""
    SAFEGUARDS[safeguard]()


def _replace(owner: Any, name: str, replacement: Any) -> None:
    """Replace an attribute that exists, so that a renamed part of the runtime is an error and not a control that passes."""
    getattr(owner, name)
    setattr(owner, name, replacement)


def _deduplication() -> None:
    """No handled message is recognized, and events are published without an id."""

    async def look_up(self: Attempts, key: Any, work: Any) -> None:
        return None

    event_headers = outbox_messages.event_headers

    def without_id(*args: Any) -> bytes:
        return _MESSAGE_ID.sub(b"", event_headers(*args))

    _replace(StoredKey, "find", lambda self, message_id: None)
    _replace(Attempts, "_look_up", look_up)
    _replace(outbox_messages, "event_headers", without_id)


def _dedup_entries() -> None:
    """Dedup entries are not found; only the list in the record is used."""

    async def find(self: DedupStore, token: str, message_id: str) -> None:
        return None

    _replace(DedupStore, "find", find)


def _sequence_check() -> None:
    """Records are published without the check of their expected sequence."""
    publish = JetStream.publish

    async def unchecked(self: JetStream, subject: Any, payload: bytes, *, headers: Any = None, **others: Any) -> Any:
        if ".turn." in str(subject) and headers is not None:
            headers = _EXPECTED.sub(b"", headers)
        return await publish(self, subject, payload, headers=headers, **others)

    publish_callback = JetStream.publish_callback

    def unchecked_callback(self: JetStream, subject: str, payload: bytes, headers: Any, callback: Any) -> None:
        if ".turn." in subject and headers is not None:
            headers = _EXPECTED.sub(b"", headers)
        publish_callback(self, subject, payload, headers, callback)

    _replace(JetStream, "publish", unchecked)
    _replace(JetStream, "publish_callback", unchecked_callback)


def _lease() -> None:
    """Every process believes that it holds the lease."""

    async def nothing(self: Lease, settled: bool = True) -> None:
        return None

    def held(self: Lease) -> bool:
        return True

    _replace(Lease, "acquire", nothing)
    _replace(Lease, "release", nothing)
    _replace(Lease, "held", held)


def _fence() -> None:
    """A new owner shows the state of a key though a commit of the former owner may still be stored."""

    def needed(self: Fence, token: str, commit_id: str | None) -> bool:
        return False

    _replace(Fence, "needed", needed)


def _copies() -> None:
    """Copies in memory do not follow the records of other writers."""

    async def learn(self: Copies, stored: StoredMessage) -> bool:
        return True

    _replace(Copies, "learn", learn)


def _owns() -> None:
    """A process that waits for its lease, but does not look at it before it commits, answers or publishes."""

    def held(self: Lease) -> bool:
        return True

    _replace(Lease, "held", held)


def _membership() -> None:
    """A process believes that it is the only member of a partitioned actor, and wants all partitions."""

    def members(self: View) -> list[str]:
        return []

    _replace(View, "members", members)


class _NoLanes(dict[str, Any]):
    """The lanes of `HandOn` if each event has one of its own."""

    def get(self, token: str, default: Any = None) -> Any:
        return default

    def __delitem__(self, token: str) -> None:
        self.pop(token, None)


def _hand_on_order() -> None:
    """An event is handed on at once, while events before it that act on the same key are not finished."""
    initialize = HandOn.__init__

    def without_lanes(self: HandOn, *args: Any) -> None:
        initialize(self, *args)
        assert isinstance(self._lanes, dict)
        self._lanes = _NoLanes()

    _replace(HandOn, "__init__", without_lanes)


def _whole_lists() -> None:
    """A list without the keys of a partition that does not answer is no error."""
    ask = MergedLists._part

    async def part(self: MergedLists, number: int, *args: Any) -> Part:
        try:
            return await ask(self, number, *args)
        except NotDelivered:
            return Part(number, [], False, {})

    _replace(MergedLists, "_part", part)


def _timer_check() -> None:
    """A timer is purged without a check of who has set it."""

    async def take_back(jetstream: JetStream, names: Names, entry: Outgoing, origin: int, left: set[str]) -> bool:
        await jetstream.purge(names.turns_stream, names.schedule(entry.token, key_token(entry.timer)), 2**53)
        return True

    _replace(relay, "take_back", take_back)


def _recovery() -> None:
    """A new owner does not publish the outboxes that its predecessor left."""

    async def recover(self: Relay) -> int:
        return 0

    _replace(Relay, "recover", recover)


def _sweep() -> None:
    """Sequences that the checkpoint does not account for are not read."""

    def unaccounted(self: Checkpoint, first: int, last: int, mine: set[int]) -> list[int]:
        return []

    _replace(Checkpoint, "unaccounted", unaccounted)


def _reset() -> None:
    """A new owner does not reset its consumers."""

    async def reset(self: Puller) -> ConsumerInfo:
        return await self._info()

    _replace(Puller, "reset", reset)


def _lane() -> None:
    """A failing event is given back to the server, and later events of its key are handled."""
    retry = EventWork._retry

    def give_back(self: EventWork, error: BaseException) -> None:
        delay = retry(self, error)
        if delay is not None:
            self.completion.delivery.nak(delay.after)

    _replace(EventWork, "_retry", give_back)


def _dead_letters_first() -> None:
    """The original event is terminated before its dead letter is stored."""
    store = DeadLetters.store

    async def terminate_first(self: DeadLetters, stream: str, delivery: Any, *rest: Any) -> bool:
        delivery.term()
        await asyncio.sleep(0.02)  # the termination is written before the process can be killed
        return await store(self, stream, delivery, *rest)

    _replace(DeadLetters, "store", terminate_first)


def _deadlines() -> None:
    """Deadlines are not checked before handlers and commits."""

    def unchecked(work: Any, when: str) -> None:
        return None

    _replace(attempt, "check_deadline", unchecked)


def _stored_effects() -> None:
    """Nested commands leave before the state on which their handler runs is stored."""

    async def at_once(self: NestedRequests, call: Any, timeout: float) -> float:
        return timeout

    _replace(NestedRequests, "wait_stored", at_once)


def _lease_wait() -> None:
    """A lease that somebody deleted is free at once."""
    is_over = Candidate._is_over

    def at_once(self: Candidate, sequence: int) -> bool:
        return is_over(self, sequence) or not sequence

    _replace(Candidate, "_is_over", at_once)


def _suspended_clock() -> None:
    """The clock of leases does not count the time for which the machine was suspended."""
    _replace(clocks, "elapsed", lambda: time.monotonic())  # noqa: PLW0108 - the suite replaces this clock later


def _clocks() -> None:
    """A process goes by the wall clock of its machine."""

    def ignore(self: ServerClock, sent: float, received: float, server: float) -> bool:
        return False

    _replace(ServerClock, "add", ignore)


def _handover() -> None:
    """A drain gives its keys up when the last handler has ended, although a standby waits."""

    async def wait(self: Drain, end: float) -> bool:
        return False

    _replace(Drain, "_hand_over", wait)


def _held_keys() -> None:
    """A hand-over does not tell the successor which keys are busy."""

    async def hand_over(self: Lease, busy: Any, seconds: float, settled: bool = True) -> bool:
        return await lease_hand_over(self, (), seconds, settled)

    lease_hand_over = Lease.hand_over
    _replace(Lease, "hand_over", hand_over)


def _survival() -> None:
    """No process says that it lives: each lost lease counts as its death."""

    async def survivals(self: Durables, position: Any) -> Any:
        return lambda owner, ownership: False

    _replace(Durables, "_survivals", survivals)


def _delivery_ids() -> None:
    """The deliveries of an event have other ids each time that it is routed."""
    _replace(routing, "delivery_id", lambda *parts: new_id())


SAFEGUARDS: dict[str, Callable[[], None]] = {
    "deduplication": _deduplication,
    "dedup-entries": _dedup_entries,
    "check": _sequence_check,
    "lease": _lease,
    "fence": _fence,
    "copies": _copies,
    "owns": _owns,
    "membership": _membership,
    "hand-on-order": _hand_on_order,
    "whole-lists": _whole_lists,
    "timer-check": _timer_check,
    "recovery": _recovery,
    "sweep": _sweep,
    "reset": _reset,
    "lane": _lane,
    "dead-letters-first": _dead_letters_first,
    "deadlines": _deadlines,
    "handover": _handover,
    "held-keys": _held_keys,
    "stored-effects": _stored_effects,
    "survival": _survival,
    "lease-wait": _lease_wait,
    "suspended-clock": _suspended_clock,
    "clocks": _clocks,
    "delivery-ids": _delivery_ids,
}
"""The safeguards by name, each with the function that switches it off."""
