"""The copies of states in memory follow the records that other writers store: those of keys, and those in indexes (ADR 016)."""

import asyncio
from typing import Any

from runtime.errors import CodecError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.storage.index import Indexes
from runtime.storage.journal import Journal
from runtime.storage.record import Unreadable, decode_record
from runtime.turns.keys import Keys
from runtime.wire.subjects import Names
from runtime.wire.tokens import token_key

_PAUSE = 0.01
"""Seconds between two looks at a key whose commit or read is under way."""


class Copies:
    """The copies of one ownership.

    Args:
        keys: The keys in memory.
        indexes: The indexes of the actor; None if it declares none.
    """

    def __init__(self, keys: Keys, indexes: Indexes | None) -> None:
        self._keys = keys
        self._indexes = indexes

    async def learn(self, stored: StoredMessage) -> bool:
        """Take note of a record that another writer has stored.

        Returns:
            False if it may be the record of a commit that is under way here. The caller asks again later.

        Raises:
            NotDelivered: The stream does not answer.
        """
        keys, token = self._keys, stored.subject.rpartition(".")[2]
        if not keys.learn(token, stored.sequence):
            return False
        if self._indexes is None or (keys.held is not None and await keys.held.read(token) is not None):
            return True
        try:
            key = keys.use(token_key(token))
        except CodecError:
            return True  # not the subject of a key, which the relay reports
        key.queries += 1
        try:
            await keys.ensure_loaded(key)  # The journal updates the indexes.
        except Unreadable:
            self._indexes.update(token, None)
        finally:
            key.queries -= 1
            keys.release(key)
        return True


class Successor:
    """The records that a successor stores while handlers still run here (ADR 018). Their lists must contain them.

    Args:
        jetstream: The client.
        names: The names of the actor.
        keys: The keys in memory.
        journal: Decodes the states.
        indexes: The indexes of the actor.
        after: A sequence of the turns stream, below those of the successor.
    """

    def __init__(
        self, jetstream: JetStream, names: Names, keys: Keys, journal: Journal, indexes: Indexes, after: int
    ) -> None:
        self._jetstream = jetstream
        self._names = names
        self._keys = keys
        self._journal = journal
        self._indexes = indexes
        self._after = after
        self._lock = asyncio.Lock()

    async def refresh(self) -> None:
        """Learn of all records that are stored now. Raises the errors of `JetStream.read`."""
        async with self._lock:
            names, newest = self._names, dict[str, tuple[int, Any]]()
            last = self._after
            async for stored in self._jetstream.read(names.turns_stream, names.turn("*"), start_sequence=last + 1):
                last = stored.sequence
                try:
                    record = decode_record(stored.payload, stored.subject)
                    if self._journal.fence.is_own(record.commit_id):
                        continue
                    state = self._journal.decode_state(record, stored.subject)
                except Unreadable as error:
                    self._journal.unreadable.report(error)
                    state = None
                newest[stored.subject.removeprefix(names.turn(""))] = stored.sequence, state
            for token, (sequence, state) in newest.items():
                while not self._keys.learn(token, sequence):
                    await asyncio.sleep(_PAUSE)
                self._indexes.update(token, state)
            self._after = last
