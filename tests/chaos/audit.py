"""The audit: compares the outcomes that callers got with the stored state and events of each key."""

import asyncio
import time
from collections import Counter as Tally
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import msgspec

from runtime import ActorError, Bus, PublishError, RequestError
from runtime.nats.connection import Connection
from runtime.nats.jetstream.client import JetStream
from runtime.storage.record import decode_record
from runtime.wire import header_block
from runtime.wire.buckets import Partition, partition_of
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token
from tests.chaos.actors import RECEIPT_EVERY, TICK_EVERY, Count, GetCount, GetReceipts, GetTotal, Receipt, Total
from tests.chaos.load import Outcomes

T = TypeVar("T")

PATIENCE = 25.0
"""Seconds without progress after which a missing effect counts as lost."""


@dataclass
class Verdict:
    """The number of lost effects, of effects that happened twice, and of effects out of order. All must be zero."""

    lost: int = 0
    twice: int = 0
    disorder: int = 0
    problems: list[str] = field(default_factory=list)
    """Other broken promises, and examples of the effects that were counted; 20 lines at most."""

    @property
    def good(self) -> bool:
        return not (self.lost or self.twice or self.disorder or self.problems)

    def add(self, problem: str) -> None:
        if len(self.problems) < 20:
            self.problems.append(problem)


class Emitted(msgspec.Struct):
    """The stored body of an `Added` event."""

    key: str
    command: str
    value: int


class StoreReader:
    """Reads the stored records and events of one namespace from the streams' leaders, without asking an actor."""

    def __init__(self, connection: Connection, namespace: str, partitions: int = 1) -> None:
        self.jetstream = JetStream(connection, timeout=3.0)
        self.namespace = namespace
        self.partitions = partitions

    async def state(self, actor: str, kind: type[T], key: str) -> T:
        """Return the state in the newest record of a key, or an empty state if there is none."""
        token, total = key_token(key), self.partitions
        names = Names(actor, self.namespace, Partition(total, partition_of(token, total)))
        until = time.monotonic() + 30
        while True:
            try:
                stored = await self.jetstream.get_last(names.turns_stream, names.turn(token))
                break
            except (PublishError, ActorError, TimeoutError):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.05)
        state = None if stored is None else decode_record(stored.payload, stored.subject).state
        return kind() if state is None or bytes(state) == b"null" else msgspec.json.decode(state, type=kind)

    async def states(self, key: str) -> tuple[Count, Total, Receipt]:
        """Return the states of the three actors for a key."""
        return (
            await self.state("counter", Count, key),
            await self.state("ledger", Total, key),
            await self.state("receipts", Receipt, key),
        )

    async def events(self) -> dict[str, list[tuple[str, Emitted]]]:
        """Return the stored `Added` events by key, each with its id, in the order of the stream."""
        names = Names("counter", self.namespace)
        found: dict[str, list[tuple[str, Emitted]]] = defaultdict(list)
        async for stored in self.jetstream.read(names.events_stream, names.stored_event("added")):
            event = msgspec.json.decode(stored.payload, type=Emitted)
            found[event.key].append((header_block.get(stored.headers, b"ce-id") or "", event))
        return found


async def audit(
    connection: Connection,
    bus: Bus,
    namespace: str,
    outcomes: Outcomes,
    *,
    one_owner: bool = True,
    patience: float = PATIENCE,
    partitions: int = 1,
) -> Verdict:
    """Wait until all effects have arrived, and compare them with the outcomes. Faults must be over.

    Args:
        connection: Reads the streams.
        bus: Sends queries.
        namespace: Namespace of the actors.
        outcomes: The outcomes that callers got.
        one_owner: False if several processes owned a key at once. Sums are exact even then, but the order in which events
            were handled is not, nor are answers from the memory of the slower owner; these are not compared.
        patience: Seconds without progress after which missing effects count as lost.
        partitions: Partitions of the keys of each actor.
    """
    verdict = Verdict()
    reader = StoreReader(connection, namespace, partitions)
    await _wait_for_effects(reader, outcomes, patience)
    events = await reader.events()
    for key in sorted(outcomes.done.keys() | outcomes.without_effect.keys() | events.keys()):
        stored = await reader.states(key)
        _check_key(verdict, key, outcomes, events.get(key, []), *stored, ordered=one_owner)
        if one_owner and (answered := await _query(bus, key)) != stored:
            verdict.add(f"{key}: queries return {answered}, but {stored} is stored")
    for command_id, key in outcomes.pending.items():
        verdict.add(f"{key} {command_id}: its outcome never became known")
    for line in outcomes.differing_replies[:5]:
        verdict.add(f"a different reply to the same id: {line}")
    for line, number in Tally(outcomes.unexpected).most_common(5):
        verdict.add(f"an outcome outside the contract, {number} times: {line}")
    return verdict


def _check_key(
    verdict: Verdict,
    key: str,
    outcomes: Outcomes,
    events: list[tuple[str, Emitted]],
    count: Count,
    total: Total,
    receipt: Receipt,
    *,
    ordered: bool,
) -> None:
    replies = outcomes.done.get(key, {})
    without_effect = outcomes.without_effect.get(key, set())
    unknown = {command_id for command_id, of in outcomes.pending.items() if of == key}
    effects: dict[str, set[tuple[str, int]]] = defaultdict(set)  # by command: (event id, value)
    order: list[int] = []
    seen: set[str] = set()
    for event_id, event in events:
        effects[event.command].add((event_id, event.value))
        if event_id not in seen:
            seen.add(event_id)
            order.append(event.value)
    value = len(replies)
    for command_id, reply in replies.items():
        values = {number for _, number in effects.get(command_id, ())}
        if not values:
            verdict.lost += 1
            verdict.add(f"{key} {command_id}: the reply was {reply}, but there is no event")
        elif values != {reply}:
            verdict.twice += len(values) - 1
            verdict.add(f"{key} {command_id}: the reply was {reply}, but its events have {sorted(values)}")
    for command_id in effects.keys() - replies.keys() - unknown:
        reason = (
            "its caller got the reply that it had no effect" if command_id in without_effect else "no caller sent it"
        )
        verdict.twice += 1
        verdict.add(f"{key} {command_id}: it had an effect, but {reason}")
    if unknown:
        return  # a failure already; the sums below cannot be exact
    _compare(verdict, f"{key}: the counter's value", count.value, value)
    _compare(verdict, f"{key}: events in the ledger", total.count, value)
    _compare(verdict, f"{key}: receipts", receipt.count, value // RECEIPT_EVERY)
    _compare(verdict, f"{key}: ticks", count.ticks, value // TICK_EVERY)
    if total.count == value and total.sum != value * (value + 1) // 2:
        verdict.twice += 1
        verdict.add(f"{key}: the sum in the ledger is {total.sum}: one event was handled in place of another")
    if ordered and order != sorted(order):
        verdict.disorder += 1
        verdict.add(f"{key}: events are stored out of order: {_inversion(order)}")
    if ordered and total.disorder:
        verdict.disorder += total.disorder
        verdict.add(f"{key}: the ledger saw {total.disorder} events out of order")


def _inversion(order: list[int]) -> str:
    position = next(n for n, (a, b) in enumerate(pairwise(order)) if a > b)
    return f"… {order[max(position - 3, 0) : position + 5]} … of {len(order)}"


def _compare(verdict: Verdict, quantity: str, found: int, expected: int) -> None:
    if found < expected:
        verdict.lost += expected - found
    elif found > expected:
        verdict.twice += found - expected
    if found != expected:
        verdict.add(f"{quantity}: {found}, expected {expected}")


async def _wait_for_effects(reader: StoreReader, outcomes: Outcomes, patience: float) -> None:
    """Return once all effects have arrived, or if none has arrived for `patience` seconds."""
    waiting = set(outcomes.done)
    last, changed = 0, time.monotonic()
    while waiting and time.monotonic() - changed < patience:
        progress = 0
        for key in sorted(waiting):
            expected = len(outcomes.done[key])
            count, total, receipt = await reader.states(key)
            found = (count.value, total.count, receipt.count, count.ticks)
            progress += sum(found)
            if found == (expected, expected, expected // RECEIPT_EVERY, expected // TICK_EVERY):
                waiting.discard(key)
        if progress != last:
            last, changed = progress, time.monotonic()
        if waiting:
            await asyncio.sleep(0.1)


async def _query(bus: Bus, key: str) -> tuple[Count, Total, Receipt]:
    until = time.monotonic() + 30
    while True:
        try:
            return (
                await bus.query(GetCount(key), timeout=3),
                await bus.query(GetTotal(key), timeout=3),
                await bus.query(GetReceipts(key), timeout=3),
            )
        except RequestError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)
