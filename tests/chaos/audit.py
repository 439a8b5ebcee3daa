"""The account: what the callers were told against what is stored, event by event and key by key."""

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
from runtime.wire.subjects import Names, key_token
from tests.chaos.actors import RECEIPT_EVERY, TICK_EVERY, Count, GetCount, GetReceipts, GetTotal, Receipt, Total
from tests.chaos.load import Account

T = TypeVar("T")

PATIENCE = 25.0
"""Seconds without any progress after which what has not arrived counts as lost."""


@dataclass
class Verdict:
    """What was lost and what happened twice; both zero is the promise."""

    lost: int = 0
    twice: int = 0
    disorder: int = 0
    wrong: list[str] = field(default_factory=list)
    """Everything else that is not as promised, and examples of the above."""

    @property
    def good(self) -> bool:
        return not (self.lost or self.twice or self.disorder or self.wrong)

    def note(self, text: str) -> None:
        if len(self.wrong) < 20:
            self.wrong.append(text)


class Emitted(msgspec.Struct):
    """The body of an `Added`, as it is stored."""

    key: str
    command: str
    value: int


class Books:
    """Reads what is stored of one namespace: at the streams' leaders, not by asking an owner."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.jetstream = JetStream(connection, timeout=3.0)
        self.namespace = namespace

    async def state(self, actor: str, kind: type[T], key: str) -> T:
        """Return the state in the newest record of a key; an empty one where there is none."""
        names = Names(actor, self.namespace)
        until = time.monotonic() + 30
        while True:
            try:
                stored = await self.jetstream.get_last(names.turns_stream, names.turn(key_token(key)))
                break
            except (PublishError, ActorError, TimeoutError):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.05)
        state = None if stored is None else decode_record(stored.payload, stored.subject).state
        return kind() if state is None or bytes(state) == b"null" else msgspec.json.decode(state, type=kind)

    async def of(self, key: str) -> tuple[Count, Total, Receipt]:
        return (
            await self.state("counter", Count, key),
            await self.state("ledger", Total, key),
            await self.state("receipts", Receipt, key),
        )

    async def events(self) -> dict[str, list[tuple[str, Emitted]]]:
        """Return the stored `Added` events of each key, with their ids, in the order of the stream."""
        names = Names("counter", self.namespace)
        found: dict[str, list[tuple[str, Emitted]]] = defaultdict(list)
        async for stored in self.jetstream.read(names.events_stream, names.event("added", "*")):
            event = msgspec.json.decode(stored.payload, type=Emitted)
            found[event.key].append((header_block.get(stored.headers, b"ce-id") or "", event))
        return found


async def audit(
    connection: Connection,
    bus: Bus,
    namespace: str,
    account: Account,
    *,
    one_owner: bool = True,
    patience: float = PATIENCE,
) -> Verdict:
    """Wait until all has arrived (or nothing more does for `patience` seconds), and compare. Faults must be over by now.

    Where several owned a key at once (`one_owner` False), the sums are exact all the same, but neither the order in which
    events were handled nor an answer from the memory of the slower one.
    """
    verdict = Verdict()
    books = Books(connection, namespace)
    await _arrived(books, account, patience)
    events = await books.events()
    for key in sorted(account.done.keys() | account.void.keys() | events.keys()):
        stored = await books.of(key)
        _check_key(verdict, key, account, events.get(key, []), *stored, ordered=one_owner)
        if one_owner and (answered := await _asked(bus, key)) != stored:
            verdict.note(f"{key}: queries answer {answered}, stored is {stored}")
    for command_id, key in account.open.items():
        verdict.note(f"{key} {command_id}: the outcome never became known")
    for line in account.unlike[:5]:
        verdict.note(f"another reply to the same id: {line}")
    for line, number in Tally(account.odd).most_common(5):
        verdict.note(f"an outcome that is not in the contract, {number} times: {line}")
    return verdict


def _check_key(
    verdict: Verdict,
    key: str,
    account: Account,
    events: list[tuple[str, Emitted]],
    count: Count,
    total: Total,
    receipt: Receipt,
    *,
    ordered: bool,
) -> None:
    told = account.done.get(key, {})
    void = account.void.get(key, set())
    unknown = {command_id for command_id, of in account.open.items() if of == key}
    effects: dict[str, set[tuple[str, int]]] = defaultdict(set)  # by command: (event id, value)
    order: list[int] = []
    seen: set[str] = set()
    for event_id, event in events:
        effects[event.command].add((event_id, event.value))
        if event_id not in seen:
            seen.add(event_id)
            order.append(event.value)
    value = len(told)
    for command_id, reply in told.items():
        values = {number for _, number in effects.get(command_id, ())}
        if not values:
            verdict.lost += 1
            verdict.note(f"{key} {command_id}: told {reply}, but there is no event")
        elif values != {reply}:
            verdict.twice += len(values) - 1
            verdict.note(f"{key} {command_id}: told {reply}, its events say {sorted(values)}")
    for command_id in effects.keys() - told.keys() - unknown:
        why = "its caller was told that it had no effect" if command_id in void else "nobody sent it"
        verdict.twice += 1
        verdict.note(f"{key} {command_id}: an effect, but {why}")
    if unknown:
        return  # already a failure; the sums below cannot be exact
    _compare(verdict, f"{key}: the counter's value", count.value, value)
    _compare(verdict, f"{key}: events in the ledger", total.count, value)
    _compare(verdict, f"{key}: receipts", receipt.count, value // RECEIPT_EVERY)
    _compare(verdict, f"{key}: reminders that fired", count.ticks, value // TICK_EVERY)
    if total.count == value and total.sum != value * (value + 1) // 2:
        verdict.twice += 1
        verdict.note(f"{key}: the ledger's sum is {total.sum}: one event stands for another")
    if ordered and order != sorted(order):
        verdict.disorder += 1
        verdict.note(f"{key}: events are stored out of order: {_inversion(order)}")
    if ordered and total.disorder:
        verdict.disorder += total.disorder
        verdict.note(f"{key}: the ledger saw {total.disorder} events out of order")


def _inversion(order: list[int]) -> str:
    place = next(n for n, (a, b) in enumerate(pairwise(order)) if a > b)
    return f"… {order[max(place - 3, 0) : place + 5]} … of {len(order)}"


def _compare(verdict: Verdict, what: str, found: int, right: int) -> None:
    if found < right:
        verdict.lost += right - found
    elif found > right:
        verdict.twice += found - right
    if found != right:
        verdict.note(f"{what}: {found}, and {right} would be right")


async def _arrived(books: Books, account: Account, patience: float) -> None:
    """Return when counter, ledger, receipts and reminders have all that was told, or when nothing has moved for long."""
    waiting = set(account.done)
    last, moved = 0, time.monotonic()
    while waiting and time.monotonic() - moved < patience:
        progress = 0
        for key in sorted(waiting):
            right = len(account.done[key])
            count, total, receipt = await books.of(key)
            found = (count.value, total.count, receipt.count, count.ticks)
            progress += sum(found)
            if found == (right, right, right // RECEIPT_EVERY, right // TICK_EVERY):
                waiting.discard(key)
        if progress != last:
            last, moved = progress, time.monotonic()
        if waiting:
            await asyncio.sleep(0.1)


async def _asked(bus: Bus, key: str) -> tuple[Count, Total, Receipt]:
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
