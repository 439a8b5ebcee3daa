"""The audit of deliveries: which targets must have got which events, by plain predicates, and which ones did."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from runtime.wire import header_block
from runtime.wire.ids import CLOCK_MARGIN
from runtime.wire.subjects import Names
from tests.chaos.audit import PATIENCE, StoreReader, Verdict
from tests.chaos.feeding import Changes, Window
from tests.chaos.feeds import Fed, Feeds, Fields, Note, Noted
from tests.chaos.hook import Hook
from tests.chaos.rulebook import FLIP, SIDES, SWITCH, plain_rules

_DOUBT = CLOCK_MARGIN + 0.5
"""Seconds by which the times of changes and events may differ. A rule allows for that at its beginning."""


class Emitted(NamedTuple):
    """An event, and the Unix time at which it was stored."""

    fields: Fields
    stored: float


Events = dict[str, dict[int, Emitted]]
"""Events by key and number."""


class Place(NamedTuple):
    """A delivery by a rule that does not change, as the events demand it."""

    number: int
    rule: str


Wanted = dict[tuple[str, str], list[Place]]
"""The deliveries for each key and target, in their order."""
Found = dict[tuple[str, str], list[Note]]
"""Those that took effect; for the endpoint and the subject, the first one of each id."""


class Deliveries:
    """Reads the deliveries of a cell.

    Args:
        store: Reads records.
        hook: The endpoint.
        out: The stream of the subject.
        keys: The keys of all feeds.
    """

    def __init__(self, store: StoreReader, hook: Hook, out: str, keys: Iterable[str]) -> None:
        self._store = store
        self._hook = hook
        self._out = out
        self._keys = sorted(keys)
        self.count = self.repeated = 0
        """Deliveries that took effect, and those to the endpoint or the subject that arrived again with their id."""

    async def events(self, count: int) -> Events:
        """Return all events when so many are stored, or no more come for `PATIENCE` seconds."""
        last, changed = -1, time.monotonic()
        while True:
            events = await self._events()
            number = sum(map(len, events.values()))
            if number >= count or time.monotonic() - changed > PATIENCE:
                return events
            if number != last:
                last, changed = number, time.monotonic()
            await asyncio.sleep(0.5)

    async def _events(self) -> Events:
        names = Names(Feeds.name, self._store.namespace)
        found: Events = defaultdict(dict)
        async for stored in self._store.jetstream.read(names.events_stream, names.stored_event("fed")):
            event = msgspec.json.decode(stored.payload, type=Fed)
            fields = Fields(event.kind, event.word, event.amount, event.note)
            found[event.key][event.number] = Emitted(fields, stored.time)
        return found

    async def wait(self, check: Callable[[Found], Verdict]) -> Verdict:
        """Return the verdict of `check` when nothing is lost, or nothing has arrived for `PATIENCE` seconds."""
        last, changed = -1, time.monotonic()
        while True:
            found = await self.found()
            verdict, self.count = check(found), sum(map(len, found.values()))
            if self.count != last:
                last, changed = self.count, time.monotonic()
            if not verdict.lost or time.monotonic() - changed > PATIENCE:
                return verdict
            await asyncio.sleep(0.5)

    async def found(self) -> Found:
        """Return the deliveries so far, by key and target."""
        found: Found = defaultdict(list)
        self.repeated = 0
        for key in self._keys:
            for actor in ("books", "hearers"):
                for note in (await self._store.state(actor, Noted, key)).notes:
                    found[note.key, note.target].append(note)
        for arrived in (self._hook.notes, await self._stored()):
            ids: set[str] = set()
            for delivery_id, note in arrived:
                if delivery_id not in ids:
                    ids.add(delivery_id)
                    found[note.key, note.target].append(note)
            self.repeated += len(arrived) - len(ids)
        return found

    async def _stored(self) -> list[tuple[str, Note]]:
        return [
            (header_block.get(stored.headers, b"Nats-Msg-Id") or "", msgspec.json.decode(stored.payload, type=Note))
            async for stored in self._store.jetstream.read(self._out, ">")
        ]


def wanted_of(events: Events) -> Wanted:
    """Return the deliveries that the rules without changes demand."""
    wanted: Wanted = defaultdict(list)
    rules = sorted(plain_rules(), key=lambda rule: rule.name)
    for key, numbered in events.items():
        for number, event in sorted(numbered.items()):
            for rule in rules:
                if rule.matches(event.fields):
                    for target in rule.targets:
                        wanted[key, target].append(Place(number, rule.name))
    return wanted


def compare(verdict: Verdict, wanted: Wanted, found: Found, replayed: bool) -> None:
    """Compare the deliveries by the rules without changes, and the order of all deliveries.

    If some are `replayed`, beside live ones of other rules, the order is that of each rule.
    """
    for key, target in sorted(wanted.keys() | found.keys()):
        notes = found.get((key, target), [])
        places = [Place(note.number, note.rule) for note in notes]
        for rule in {place.rule for place in places} if replayed else {""}:
            ordered = [place for place in places if rule in ("", place.rule)]
            if ordered != sorted(ordered):
                verdict.disorder += 1
                verdict.add(f"{key} at {target}: out of order: {_inversion(ordered)}")
        count = Counter(place for place in places if place.rule not in (FLIP, SWITCH))
        expected = Counter(wanted.get((key, target), []))
        _count(verdict, f"{key} at {target}", expected, count)


def compare_flips(verdict: Verdict, changes: Changes, windows: dict[str, list[Window]], found: Found) -> None:
    """Check that each event has gone to one of the two targets, by a change that was in force at its emit or later."""
    for key, spans in windows.items():
        flips = sorted(
            (note for side in SIDES for note in found.get((key, side), []) if note.rule == FLIP),
            key=lambda note: note.number,
        )
        numbers = Counter(Place(note.number, FLIP) for note in flips)
        expected = Counter(Place(number, FLIP) for span in spans for number in range(span.first, span.last + 1))
        _count(verdict, f"{key} at {' or '.join(SIDES)}", expected, numbers)
        floors = {number: span.flip for span in spans for number in range(span.first, span.last + 1)}
        highest = 0
        for note in flips:
            floor = max(floors.get(note.number, 0), highest)
            if not floor <= note.mark <= changes.flips_begun or note.target != SIDES[(note.mark - 1) % 2]:
                verdict.add(
                    f"{key} {note.number}: it went to {note.target} by change {note.mark} of {FLIP}; {floor} was in force"
                )
            highest = max(highest, note.mark)


def compare_switches(
    verdict: Verdict, changes: Changes, windows: dict[str, list[Window]], events: Events, found: Found
) -> None:
    """Check that no event has gone by a disabled rule, and each one of the last enabled time has gone by it."""
    for key, spans in windows.items():
        numbers = Counter(note.number for note in found.get((key, SIDES[0]), []) if note.rule == SWITCH)
        for number, count in numbers.items():
            stored = events[key][number].stored if number in events[key] else 0.0
            if any(start + 0.5 < stored < end - _DOUBT for start, end in changes.disabled):
                verdict.add(f"{key} {number}: it was delivered by {SWITCH}, which was disabled at its emit")
            if count > 1:
                verdict.twice += count - 1
                verdict.add(f"{key} {number}: {count} deliveries by {SWITCH}")
        last = [span for span in spans if span.switch == changes.switches]
        for number in [number for span in last for number in range(span.first, span.last + 1)]:
            if not numbers[number]:
                verdict.lost += 1
                verdict.add(f"{key} {number}: it was not delivered by {SWITCH}, which was enabled for good")


def _count(verdict: Verdict, place: str, expected: Counter[Place], found: Counter[Place]) -> None:
    for missing, count in (expected - found).items():
        verdict.lost += count
        verdict.add(f"{place}: {missing.number} by {missing.rule} is missing")
    for extra, count in (found - expected).items():
        verdict.twice += count
        verdict.add(
            f"{place}: {extra.number} by {extra.rule} was delivered {found[extra]} times, not {expected[extra]}"
        )


def _inversion(places: list[Place]) -> str:
    at = next(number for number in range(1, len(places)) if places[number - 1] > places[number])
    return ", ".join(f"{place.number} {place.rule}" for place in places[max(at - 2, 0) : at + 3])
