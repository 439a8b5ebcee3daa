"""The journal of keyed turns: load a key's record, know what it has handled, commit the next record.

A commit is one JetStream publish with `Nats-Expected-Last-Subject-Sequence`; whoever else wrote in between wins, and this
side forgets, reloads and runs again. `ack` or not, the newest record tells what happened (architecture.md §3, §4).
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from runtime.errors import ActorError, PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import ApiError, WrongSequence
from runtime.options import Options
from runtime.storage.dedup import DedupStore, KeyDedup
from runtime.storage.key import StoredKey
from runtime.storage.record import NO_STATE, Handled, Outgoing, Record, decode_record, encode_record
from runtime.storage.state import States
from runtime.wire import header_block
from runtime.wire.codec import UNENCODABLE
from runtime.wire.ids import CLOCK_MARGIN, new_id
from runtime.wire.subjects import Names

_EXPECTED_SEQUENCE = header_block.START + header_block.line(header_block.EXPECTED_SEQUENCE, b"%d")

_REPLIES = 65_536
"""Bytes of replies that a record carries, beyond those whose dedup entry is not confirmed: a record must fit one message."""

_RECENT = 65_536
"""Ids of handled messages that a busy key keeps in memory at most, to spare the look-up of their entries."""


class Conflict(ActorError):
    """Another writer has committed to this key: forget, reload, run again."""


class NotStored(ActorError):
    """The commit is certainly not stored: the server refused it, or was not there."""


class Unstorable(ActorError):
    """The state cannot be put into bytes: nothing was sent."""


class Unsettled(ActorError):
    """It is not known whether the commit is stored: the server cannot be asked."""


class Journal:
    """Loads and commits the records of one actor type."""

    def __init__(
        self,
        jetstream: JetStream,
        names: Names,
        state_type: Any,
        version: int,
        upgrades: dict[int, Callable[[dict[str, Any]], dict[str, Any]]],
        options: Options,
        stored: Callable[[int], None],
    ) -> None:
        self._jetstream = jetstream
        self._names = names
        self._version = version
        self.decode_state = States(names.actor, state_type, version, upgrades).decode
        """Returns the state in a record; see `States.decode`."""
        self._options = options
        self._ttl = header_block.ttl(max(int(options.remember), 1))
        self._writer = new_id()
        self._commits = itertools.count()
        self.dedup = DedupStore(jetstream, names, options.remember, stored)
        self.on_change: Callable[[str, Any], None] | None = None
        """Told ``(key token, state)`` of each state that was read, or that a commit has changed (the indexes)."""

    @property
    def max_body(self) -> int:
        """The most bytes that an event's or timer's body may have, so that it can be published with its headers."""
        return self._jetstream.connection.max_payload - 4096

    def subject(self, key: StoredKey) -> str:
        """``orders.turn.<key>``."""
        return self._names.turn(key.token)

    async def load(self, key: StoredKey) -> Record | None:
        """Read the newest record of `key` from the stream leader into it. Raises `PublishError` or `TimeoutError`."""
        stored = await self._jetstream.get_last(self._names.turns_stream, self.subject(key))
        key.forget()
        record = None
        if stored is not None:
            record = decode_record(stored.payload, stored.subject)
            key.sequence = stored.sequence
            self._take(key, record)
        key.loaded = True
        if self.on_change is not None:
            # Usually nothing new; after a conflict, what the other writer has done.
            self.on_change(key.token, key.state)
        return record

    async def commit(
        self, key: StoredKey, state: Any, done: list[Handled], outbox: list[Outgoing], *, expires: bool = False
    ) -> int:
        """Write the next record of `key`, after the turns of `done`, and return its sequence; the key then holds it.

        `expires` is for a record that never replaces another: what a record has put out of the stream comes back when that
        record expires and the server is killed (2.15.1). So that of a deleted key (a state of None) stays.

        Raises `Conflict` (another writer; reload and run again), `Unstorable`, `NotStored` or `Unsettled`.
        """
        try:
            body = msgspec.Raw(encode_record(state)) if state is not None else NO_STATE
        except UNENCODABLE as error:
            raise Unstorable(str(error)) from error
        handled, gone = self._kept(key)
        left = max([key.dedup.evicted_until if key.dedup is not None else 0.0, *(entry.time for entry in gone)])
        handled += done
        record = Record(
            turn=f"{self._writer}-{next(self._commits):x}",
            version=self._version,
            state=body,
            handled=handled,
            outbox=[entry for entry, _ in key.outbox] + outbox if key.outbox else outbox,
            evicted_until=left,
        )
        headers = _EXPECTED_SEQUENCE % key.sequence
        if expires:
            headers += self._ttl
        subject = self.subject(key)
        payload = encode_record(record)
        try:
            ack = await self._jetstream.publish(subject, payload, headers=headers + header_block.END)
            sequence = ack.sequence
        except WrongSequence:
            sequence = await self._settle(subject, record)
        except TimeoutError:
            sequence = await self._settle(subject, record)
        except PublishError as error:
            raise NotStored(str(error)) from error
        key.sequence = sequence
        changed, key.state = key.state is not state, state
        self._remember(key, handled, gone, left, len(payload))
        if changed and self.on_change is not None:
            self.on_change(key.token, state)
        return sequence

    async def _settle(self, subject: str, record: Record) -> int:
        """Was the commit stored? The newest record tells. Raises `Conflict` where it is another's."""
        for pause in (0.0, 0.1, 0.5, 1.0):
            await asyncio.sleep(pause)
            try:
                stored = await self._jetstream.get_last(self._names.turns_stream, subject)
            except (TimeoutError, PublishError, ApiError):
                continue
            if stored is not None and decode_record(stored.payload, subject).turn == record.turn:
                return stored.sequence
            raise Conflict(f"{subject}: another writer has committed")
        raise Unsettled(f"{subject}: it is not known whether the commit is stored")

    def _take(self, key: StoredKey, record: Record) -> None:
        key.state = self.decode_state(record, self.subject(key))
        key.handled = tuple(record.handled)
        key.dedup = KeyDedup(record.evicted_until) if record.evicted_until else None

    def _kept(self, key: StoredKey) -> tuple[list[Handled], list[Handled]]:
        """Split the handled list: what the next record carries, and what leaves it since its dedup entry is confirmed."""
        dedup = key.dedup
        if dedup is None or not dedup.written:
            return list(key.handled), []
        surplus = _surplus(key.handled, self._options.handled - 1, dedup.size)
        gone = [entry for entry in key.handled[:surplus] if entry.id in dedup.written]
        kept = [entry for entry in key.handled[:surplus] if entry.id not in dedup.written]
        kept += key.handled[surplus:]
        return kept, gone

    def _remember(self, key: StoredKey, handled: list[Handled], gone: list[Handled], left: float, size: int) -> None:
        """After the commit of a record of `size` bytes: keep the ids of what has left it, write entries for what is about to."""
        key.handled = tuple(handled)
        surplus = _surplus(handled, self._options.handled, size)
        dedup = key.dedup
        if dedup is None:
            if not surplus and not gone:
                return
            dedup = key.dedup = KeyDedup()
        dedup.evicted_until, dedup.size = left, size
        if gone:
            self._forget(dedup, gone)
        enough = 2 * self._options.handled if size <= _REPLIES else 1
        if not dedup.writing and surplus - len(dedup.written) >= enough:
            self.dedup.write(key.token, dedup, [each for each in handled[:surplus] if each.id not in dedup.written])

    def _forget(self, dedup: KeyDedup, gone: list[Handled]) -> None:
        recent, now = dedup.recent, time.time()
        for entry in gone:
            if entry.time > now + CLOCK_MARGIN:
                # Of a clock that is far ahead: it would stay in memory as long. Its entry is looked up instead.
                dedup.forgotten_until = max(dedup.forgotten_until, entry.time)
            else:
                recent[entry.id] = entry.time
            dedup.written.discard(entry.id)
        horizon = now - 2 * CLOCK_MARGIN
        while recent and (len(recent) > _RECENT or next(iter(recent.values())) < horizon):
            dedup.forgotten_until = max(dedup.forgotten_until, recent.popitem(last=False)[1])


def _surplus(handled: Sequence[Handled], most: int, size: int) -> int:
    """Return how many of the oldest are more than `most`, or more than the bytes that replies may have.

    `size` are the bytes of a record that has them all.
    """
    if size <= _REPLIES:
        return max(len(handled) - most, 0)
    replies = 0
    for kept, entry in enumerate(reversed(handled)):
        replies += len(entry.reply)
        if kept >= most or replies > _REPLIES:
            return len(handled) - kept
    return 0
