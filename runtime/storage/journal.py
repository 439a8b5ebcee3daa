"""The journal of keyed turns: loads the record of a key, and commits the next one.

A commit is one JetStream publish with `Nats-Expected-Last-Subject-Sequence`, the sequence of the record that the turn
began from (ADR 001). Two owners that both believe they own a key therefore cannot both commit: the stream refuses the
second one, which forgets the key, loads the newest record and runs its turns again.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from runtime.errors import ActorError, PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import STORAGE_CODES, ApiError, ErrorCode, NotJetStream, WrongSequence
from runtime.nats.jetstream.responses import StoredMessage
from runtime.options import Options
from runtime.storage.dedup import DedupStore
from runtime.storage.fence import Fence
from runtime.storage.key import StoredKey
from runtime.storage.key_dedup import KeyDedup
from runtime.storage.record import (
    Handled,
    NewRecord,
    Outgoing,
    Record,
    Unreadable,
    decode_record,
    encode_record,
    join_handled,
    rewrite_record,
)
from runtime.storage.state import States
from runtime.storage.unreadable import UnreadableRecords
from runtime.wire import header_block
from runtime.wire.subjects import Names

_EXPECTED_SEQUENCE = header_block.START + header_block.line(header_block.EXPECTED_SEQUENCE, b"%d")
"""The beginning of a commit's header block."""

_HEADER_ROOM = 4096
"""Bytes of a message that are kept free for the headers of an event or timer."""

_MANY, _MAX_TEXT = 4, 16_384
"""The JSON of so many handled messages is kept for the next record of the key, if it has no more than these bytes."""

_VERIFY_PAUSES = (0.0, 0.1, 0.5, 1.0)
"""Seconds before each attempt to read the newest record after a commit without a clear answer."""


class Conflict(ActorError):
    """Another writer has committed to this key. Forget the key, load it, and run the turns again.

    Args:
        text: The reason.
        refused: Whether the stream has refused the commit. Otherwise it got no answer, and may be stored later.
    """

    def __init__(self, text: str, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


class NotStored(ActorError):
    """The commit is certainly not stored: the server refused it, or could not be reached."""


class RecordTooLarge(ActorError):
    """The record is larger than the server or the stream takes. Nothing was stored.

    Args:
        subject: The subject of the record.
        size: The bytes of the record.
        limit: The most bytes that a record may have.
    """

    def __init__(self, subject: str, size: int, limit: int) -> None:
        super().__init__(f"{subject}: the record would have {size:,} bytes, and a message may have {limit:,}")
        self.excess = size - limit


class Unsettled(ActorError):
    """Whether the commit is stored is unknown: the stream does not answer."""


class Draft(msgspec.Struct, eq=False):
    """The next record of a key, which is not stored yet."""

    key: StoredKey
    commit_id: str
    subject: str
    headers: bytes
    payload: bytes
    state: Any = None
    """The state that the key has once the record is stored."""
    listed: tuple[Handled, ...] = ()
    """The handled messages in the record."""
    text: bytes = b""
    """Their JSON without brackets."""
    evicted: Sequence[Handled] = ()
    """The handled messages that the record before has listed and this one does not."""
    evicted_until: float = 0.0
    before: int = 0
    """The highest sequence of a commit of this process when the record was sent."""


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
        self._state_version = states.version
        self.unreadable = unreadable
        self.decode_state = states.decode
        """Return the state in a record; see `States.decode`."""
        self._expires = header_block.ttl(max(int(options.remember), 1)) + header_block.END
        self.fence = fence
        self._last_sequence = 0
        """The highest sequence of a commit of this process."""
        self.on_loss: Callable[[], None] | None = None
        """A callback for the case that the stream has lost commits of this process, as if it was restored from a backup."""
        self._commit_numbers = itertools.count()
        self.dedup = DedupStore(jetstream, names, options, on_stored)
        self.on_change: Callable[[str, Any], None] | None = None
        """A callback with key token and state, called for each state that is loaded or changed by a commit (for indexes)."""

    @property
    def max_body(self) -> int:
        """The largest body of an event or timer, in bytes, that fits a message together with its headers."""
        return self._jetstream.connection.max_payload - _HEADER_ROOM

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
        unconfirmed = {entry.id for entry, _ in key.outbox or ()}
        generation, commit_id, record = key.generation, self._new_commit_id(), key.unfenced
        try:
            draft = self._address(key, commit_id, rewrite_record(record, commit_id, unconfirmed))
            sequence = await self._publish(draft, verify=False)
        except RecordTooLarge:
            # The record fills a message, and the former owner's commit id was a little shorter.
            commit_id = secrets.token_hex(8)
            draft = self._address(key, commit_id, rewrite_record(record, commit_id, unconfirmed))
            sequence = await self._publish(draft, verify=False)
        if key.generation == generation:
            key.sequence, key.readable, key.unfenced = sequence, True, None
        return sequence

    def draft(
        self,
        key: StoredKey,
        state: Any,
        body: bytes,
        handled: list[Handled],
        outbox: list[Outgoing],
        *,
        expires: bool = False,
        alone: bool = False,
    ) -> Draft:
        """Return the next record of a key, for `commit` or `send`. Nothing is stored, and `key` does not change.

        Args:
            key: The key, loaded.
            state: The state that the turns leave; None deletes it.
            body: The JSON of the state.
            handled: The messages that the turns have handled.
            outbox: The events and timers that the turns have emitted. Entries of earlier turns that are not confirmed
                yet are carried over from `key.outbox`.
            expires: Let the record expire after `Options.remember`. Only for a record that never replaces another:
                nats-server 2.15.1 restores an overwritten message if the newer one expires and the server is killed.
                The record of a deleted key therefore stays.
            alone: List no earlier handled messages in the record. `DedupStore.move_out` must have stored their entries.

        Raises:
            RecordTooLarge: The record does not fit one message.
        """
        kept, evicted = self.dedup.split(key, alone)
        evicted_until = key.dedup.evicted_until if key.dedup is not None else 0.0
        if evicted:
            evicted_until = max(evicted_until, *(entry.time for entry in evicted))
        listed = (*kept, *handled)
        if evicted or not key.handled_text:
            text = join_handled(b"", listed)
        else:
            text = join_handled(key.handled_text, handled)
        commit_id = self._new_commit_id()
        record = NewRecord(
            commit_id=commit_id,
            state_version=self._state_version,
            state=msgspec.Raw(body),
            handled=msgspec.Raw(b"[" + text + b"]"),
            outbox=[entry for entry, _ in key.outbox] + outbox if key.outbox else outbox,
            evicted_until=evicted_until,
        )
        return self._address(
            key, commit_id, encode_record(record), expires, state, listed, text, evicted, evicted_until
        )

    async def commit(self, draft: Draft) -> int:
        """Store a record, and update its key to it.

        Returns:
            The sequence of the record.

        Raises:
            Conflict: Another writer has committed to the key.
            RecordTooLarge: The record does not fit one message.
            NotStored: The record is certainly not stored.
            Unsettled: The record may or may not be stored.
        """
        sequence = await self._publish(draft)
        self._update(draft, sequence)
        return sequence

    def send(self, draft: Draft, callback: Callable[[int, Exception | None], None]) -> None:
        """Send a record; the answer calls `callback`, without a task or a future. A turn has no other wait than this one.

        The call is ``callback(sequence, None)`` if the record is stored and its key is updated to it. It is
        ``callback(0, error)`` if there is no such answer: `resolve` then finds out whether the record is stored.

        Raises:
            PublishError: The record was not sent.
        """
        draft.before = self._last_sequence
        on_reply = partial(self._on_reply, draft, callback)
        self._jetstream.publish_callback(draft.subject, draft.payload, draft.headers, on_reply)
        self.fence.sending.add(draft.key.token)

    def _on_reply(
        self,
        draft: Draft,
        callback: Callable[[int, Exception | None], None],
        sequence: int,
        error: Exception | None,
    ) -> None:
        if error is None:
            self._acknowledged(draft, sequence)
            self._update(draft, sequence)
        callback(sequence, error)

    async def resolve(self, draft: Draft, error: Exception) -> int:
        """Find out whether a record is stored that was sent, and has got `error` in place of an acknowledgement; see `commit`."""
        sequence = await self._settle(draft, error)
        self._update(draft, sequence)
        return sequence

    def give_up(self, draft: Draft) -> None:
        """Take note that nobody waits for the answer to `send` any more: the record may be stored."""
        self.fence.suspect(draft.key.token)

    def _update(self, draft: Draft, sequence: int) -> None:
        """Update a key to a record that is stored."""
        key, state = draft.key, draft.state
        key.sequence, key.readable, key.unfenced = sequence, True, None
        changed, key.state = key.state is not state, state
        key.handled = listed = draft.listed
        key.handled_text = draft.text if len(listed) >= _MANY and len(draft.text) <= _MAX_TEXT else b""
        self.dedup.after_commit(key, draft.evicted, draft.evicted_until, len(draft.payload))
        if changed and self.on_change is not None:
            self.on_change(key.token, state)

    def _new_commit_id(self) -> str:
        return f"{self.fence.writer_id}-{next(self._commit_numbers):x}"

    def _address(self, key: StoredKey, commit_id: str, payload: bytes, expires: bool = False, *rest: Any) -> Draft:
        """Return a record with its subject and headers, and the `rest` of its fields.

        Raises:
            RecordTooLarge: It does not fit one message.
        """
        headers = _EXPECTED_SEQUENCE % key.sequence + (self._expires if expires else header_block.END)
        subject = self._names.turn(key.token)
        limit = self._jetstream.connection.max_payload - len(headers)
        if len(payload) > limit:
            raise RecordTooLarge(subject, len(payload), limit)
        return Draft(key, commit_id, subject, headers, payload, *rest)

    async def _publish(self, draft: Draft, verify: bool = True) -> int:
        """Store a record; return its sequence. `verify` finds out whether it is stored if there is no clear answer."""
        draft.before = self._last_sequence
        self.fence.sending.add(draft.key.token)
        try:
            ack = await self._jetstream.publish(draft.subject, draft.payload, headers=draft.headers)
        except (TimeoutError, PublishError) as error:
            return await self._settle(draft, error, verify)
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

    async def _settle(self, draft: Draft, error: Exception, verify: bool = True) -> int:
        """Return the sequence of a record that is stored, though its publish has ended with `error`; else raise as `commit`."""
        subject, commit_id, token, fence = draft.subject, draft.commit_id, draft.key.token, self.fence
        try:
            raise error
        except WrongSequence:
            fence.sending.discard(token)
            if not verify:
                raise Conflict(f"{subject}: another writer has committed", refused=True) from None
            return await self._find_stored(subject, commit_id, refused=True)
        except (TimeoutError, NotJetStream) as error:
            fence.suspect(token)
            if not verify:
                raise Unsettled(f"{subject}: the stream did not answer") from error
            sequence = await self._find_stored(subject, commit_id)
        except PublishError as error:
            fence.sending.discard(token)
            size = len(draft.headers)
            if error.err_code == ErrorCode.MESSAGE_TOO_LARGE:
                raise RecordTooLarge(subject, len(draft.payload), await self._stream_limit(size)) from error
            if error.err_code in STORAGE_CODES and await self._is_replicated():
                fence.suspect(token)
                raise Unsettled(f"{subject}: the leader of the stream did not store the record: {error}") from error
            raise NotStored(str(error)) from error
        self._acknowledged(draft, sequence)
        return sequence

    async def _is_replicated(self) -> bool:
        """Return whether a record that the leader has failed to store may be in another replica, the leader of later."""
        try:
            info = await self._jetstream.stream_info(self._names.turns_stream)
        except (ApiError, PublishError, TimeoutError):
            return True
        return int(info.config.get("num_replicas", 1)) > 1

    async def _stream_limit(self, headers: int) -> int:
        """Return the most bytes of a record that the stream takes, if somebody has given it a limit of its own."""
        try:
            info = await self._jetstream.stream_info(self._names.turns_stream)
        except (ApiError, PublishError, TimeoutError) as error:
            raise NotStored(f"stream {self._names.turns_stream} refuses a record for its size") from error
        return max(int(info.config.get("max_msg_size", 0)) - headers, 0)

    async def _find_stored(self, subject: str, commit_id: str, refused: bool = False) -> int:
        """Return the sequence of a record that was sent without a clear answer, or `refused`, if it is the newest one.

        A commit that timed out may have been stored; in one measurement 18 of 112 were. Sending it again would not tell:
        the stream checks the expected sequence before it looks for a duplicate message id, so it would refuse the
        repetition in either case. So nothing is sent again. The newest record is read from the leader of the stream, and
        its `commit_id` decides: with ours, the commit is done, and with another one, it is lost. A refused commit is
        verified in the same way; that costs one read, and only if two owners race.

        Raises:
            Conflict: The newest record is that of another writer.
            Unsettled: The stream cannot be read.
        """
        for pause in _VERIFY_PAUSES:
            await asyncio.sleep(pause)
            try:
                stored = await self._jetstream.get_last(self._names.turns_stream, subject)
            except (TimeoutError, PublishError, ApiError):
                continue
            if stored is not None and _is_same(stored, commit_id):
                return stored.sequence
            raise Conflict(f"{subject}: another writer has committed", refused)
        raise Unsettled(f"{subject}: it is not known whether the commit is stored")


def _is_same(stored: StoredMessage, commit_id: str) -> bool:
    """Return whether a stored message is the record with `commit_id`."""
    try:
        return decode_record(stored.payload, stored.subject).commit_id == commit_id
    except Unreadable:
        return False  # this process has not written it
