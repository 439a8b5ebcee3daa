"""The journal of keyed turns: loads the record of a key, and commits the next one.

A commit is one JetStream publish with `Nats-Expected-Last-Subject-Sequence`, the sequence of the record that the turn
began from (ADR 001). Two owners that both believe they own a key therefore cannot both commit: the stream refuses the
second one, which forgets the key, loads the newest record and runs its turns again.
"""

from collections.abc import Callable
from typing import Any

from runtime.errors import PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.options import Options
from runtime.storage.dedup import DedupStore
from runtime.storage.draft import Draft, Drafts, RecordTooLarge
from runtime.storage.fence import Fence
from runtime.storage.key import StoredKey
from runtime.storage.key_dedup import KeyDedup
from runtime.storage.record import Record, Unreadable, decode_record
from runtime.storage.settlement import Settlement
from runtime.storage.state import States
from runtime.storage.unreadable import UnreadableRecords
from runtime.wire.subjects import Names


class Journal:
    """Loads and commits the records of one actor type.

    Args:
        jetstream: The client.
        names: The names of the actor; its turns stream holds the records.
        states: The decoder of the actor's states.
        options: `handled` and `remember` are used.
        on_stored: A callback with the sequence of each dedup entry that is stored; see `DedupStore`.
        unreadable: Logs and remembers the unreadable records.
        fence: Tells which keys must be touched before their state is shown.
    """

    def __init__(
        self,
        jetstream: JetStream,
        names: Names,
        states: States,
        options: Options,
        on_stored: Callable[[int], None],
        unreadable: UnreadableRecords,
        fence: Fence,
    ) -> None:
        self._jetstream = jetstream
        self._names = names
        self.unreadable = unreadable
        self.decode_state = states.decode
        """Return the state in a record; see `States.decode`."""
        self.fence = fence
        self._last_sequence = 0
        """The highest sequence of a commit of this process."""
        self.on_loss: Callable[[], None] | None = None
        """A callback for the case that the stream has lost commits of this process, as if it was restored from a backup."""
        self.dedup = DedupStore(jetstream, names, options, on_stored)
        self.drafts = Drafts(jetstream.connection, names, options, states.version, fence.writer_id, self.dedup)
        """Makes the records that are passed to `commit` and `send`."""
        self._settlement = Settlement(jetstream, names.turns_stream, fence)
        self.on_change: Callable[[str, Any], None] | None = None
        """A callback with key token and state, called for each state that is loaded or changed by a commit (for indexes)."""

    async def load(self, key: StoredKey) -> Record | None:
        """Read the newest record of a key from the leader of the stream into `key`.

        Afterwards the key is `readable`, unless a former owner may still write it. If it has a record then, `touch` makes it
        readable; if it has none, each reader looks again (`exists`).

        Returns:
            The record, whose outbox the caller passes to the relay; None if the key has none.

        Raises:
            PublishError, TimeoutError, ApiError: The stream cannot be read now.
            Unreadable: The record or its state cannot be read; see `decode_record` and `States.decode`. It is logged once.
        """
        stored = await self._jetstream.get_last(self._names.turns_stream, self._names.turn(key.token))
        key.forget()
        record, needed = None, self.fence.needed
        if stored is None:
            key.readable = not needed(key.token, None)
        else:
            try:
                record = decode_record(stored.payload, stored.subject)
                state = self.decode_state(record, stored.subject)
            except Unreadable as error:
                self.unreadable.report(error)
                raise
            self.unreadable.forget(stored.subject)
            key.sequence = stored.sequence
            key.state = state
            key.handled = tuple(record.handled)
            key.jobs = record.jobs
            key.dedup = KeyDedup(record.evicted_until) if record.evicted_until else None
            if needed(key.token, record.commit_id):
                key.unfenced = stored.payload
            else:
                key.readable = True
        key.loaded = True
        if self.on_change is not None:
            # Usually the state is known already; after a conflict it is that of the other writer.
            self.on_change(key.token, key.state)
        return record

    async def exists(self, key: StoredKey) -> bool:
        """Return whether a key has a record now. Raises as `load`, except for `Unreadable`."""
        return await self._jetstream.get_last(self._names.turns_stream, self._names.turn(key.token)) is not None

    async def touch(self, key: StoredKey) -> int:
        """Write the record of a loaded key again, so that nothing which a former owner has sent can be stored any more.

        The record keeps what it has, also fields of a newer version of this package. Only its commit id is new, and its
        outbox leaves out what is confirmed.

        Returns:
            The sequence of the record. Errors are raised as by `commit`, but at once: nobody needs to know whether a touch without
            an answer is stored, and its reader may ask again.
        """
        assert key.unfenced is not None
        generation, record = key.generation, key.unfenced
        try:
            sequence = await self._publish(self.drafts.copy(key, record), verify=False)
        except RecordTooLarge:
            sequence = await self._publish(self.drafts.copy(key, record, short=True), verify=False)
        if key.generation == generation:
            key.sequence, key.readable, key.unfenced = sequence, True, None
        return sequence

    async def commit(self, draft: Draft) -> int:
        """Store a record, and update its key to it.

        Returns:
            The sequence of the record. The errors are those of `Settlement.settle`.
        """
        sequence = await self._publish(draft)
        self._update(draft, sequence)
        return sequence

    def send(self, draft: Draft, callback: Callable[[int, Exception | None], None]) -> None:
        """Send a record; its answer calls `callback`, without a task or a future. A turn has no other wait than this one.

        The call is ``callback(sequence, None)`` if the record is stored: pass this to `accept`. It is ``callback(0, error)`` if
        there is no such answer: `resolve` finds out whether the record is stored. If nobody waits for the answer any more, call
        `give_up`.

        Raises:
            PublishError: The record was not sent, and `callback` is not called.
        """
        draft.before = self._last_sequence
        self._jetstream.publish_callback(draft.subject, draft.payload, draft.headers, callback)
        self.fence.sending.add(draft.key.token)

    def accept(self, draft: Draft, sequence: int) -> None:
        """Update a key to a record that was sent, and is stored at `sequence`."""
        self._acknowledged(draft, sequence)
        self._update(draft, sequence)

    async def resolve(self, draft: Draft, error: Exception) -> int:
        """Find out whether a record is stored that was sent, and has got `error` in place of an acknowledgement; see `commit`."""
        sequence = await self._settlement.settle(draft, error)
        self.accept(draft, sequence)
        return sequence

    def give_up(self, draft: Draft) -> None:
        """Take note that nobody waits for the answer to `send` any more: the record may be stored."""
        self.fence.suspect(draft.key.token)

    def _update(self, draft: Draft, sequence: int) -> None:
        """Update a key to a record that is stored."""
        key, state = draft.key, draft.state
        key.sequence, key.readable, key.unfenced = sequence, True, None
        changed, key.state = key.state is not state, state
        key.handled, key.handled_text = draft.listed, draft.kept_text
        key.jobs = draft.jobs
        self.dedup.after_commit(key, draft.evicted, draft.evicted_until, len(draft.payload))
        if changed and self.on_change is not None:
            self.on_change(key.token, state)

    async def _publish(self, draft: Draft, verify: bool = True) -> int:
        """Store a record; return its sequence. `verify` finds out whether it is stored if there is no clear answer."""
        draft.before = self._last_sequence
        self.fence.sending.add(draft.key.token)
        try:
            ack = await self._jetstream.publish(draft.subject, draft.payload, headers=draft.headers)
        except (TimeoutError, PublishError) as error:
            sequence = await self._settlement.settle(draft, error, verify)
            self._acknowledged(draft, sequence)
            return sequence
        except BaseException:
            self.fence.suspect(draft.key.token)  # This process stops, and the record may be stored.
            raise
        self._acknowledged(draft, ack.sequence)
        return ack.sequence

    def _acknowledged(self, draft: Draft, sequence: int) -> None:
        """Take note that a record is stored: no sequence is lower than that of a commit which was stored before."""
        self.fence.settle(draft.key.token)
        if sequence <= draft.before:
            if self.on_loss is not None:
                self.on_loss()
        elif sequence > self._last_sequence:
            self._last_sequence = sequence
