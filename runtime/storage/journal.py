"""The journal of keyed turns: loads the record of a key, and commits the next one.

A commit is one JetStream publish with `Nats-Expected-Last-Subject-Sequence`, the sequence of the record that the turn
began from (ADR 001). Two owners that both believe they own a key therefore cannot both commit: the stream refuses the
second one, which forgets the key, loads the newest record and runs its turns again.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable
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
        self._expiry = header_block.ttl(max(int(options.remember), 1))
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
            sequence = await self._publish(key, commit_id, rewrite_record(record, commit_id, unconfirmed), verify=False)
        except RecordTooLarge:
            # The record fills a message, and the former owner's commit id was a little shorter.
            commit_id = secrets.token_hex(8)
            sequence = await self._publish(key, commit_id, rewrite_record(record, commit_id, unconfirmed), verify=False)
        if key.generation == generation:
            key.sequence, key.readable, key.unfenced = sequence, True, None
        return sequence

    async def commit(
        self,
        key: StoredKey,
        state: Any,
        body: bytes,
        handled: list[Handled],
        outbox: list[Outgoing],
        *,
        expires: bool = False,
        alone: bool = False,
    ) -> int:
        """Write the next record of a key, and update `key` to it.

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

        Returns:
            The sequence of the record.

        Raises:
            Conflict: Another writer has committed to the key.
            RecordTooLarge: The record does not fit one message.
            NotStored: The record is certainly not stored.
            Unsettled: The record may or may not be stored.
        """
        kept, evicted = self.dedup.split(key, alone)
        evicted_until = key.dedup.evicted_until if key.dedup is not None else 0.0
        if evicted:
            evicted_until = max(evicted_until, *(entry.time for entry in evicted))
        listed = kept + handled
        if evicted or not key.handled_text:
            text = join_handled(b"", listed)
        else:
            text = join_handled(key.handled_text, handled)
        record = NewRecord(
            commit_id=self._new_commit_id(),
            state_version=self._state_version,
            state=msgspec.Raw(body),
            handled=msgspec.Raw(b"[%b]" % text),
            outbox=[entry for entry, _ in key.outbox] + outbox if key.outbox else outbox,
            evicted_until=evicted_until,
        )
        payload = encode_record(record)
        sequence = await self._publish(key, record.commit_id, payload, expires=expires)
        key.sequence, key.readable, key.unfenced = sequence, True, None
        changed, key.state = key.state is not state, state
        key.handled = tuple(listed)
        key.handled_text = text if len(listed) >= _MANY and len(text) <= _MAX_TEXT else b""
        self.dedup.after_commit(key, evicted, evicted_until, len(payload))
        if changed and self.on_change is not None:
            self.on_change(key.token, state)
        return sequence

    def _new_commit_id(self) -> str:
        return f"{self.fence.writer_id}-{next(self._commit_numbers):x}"

    async def _publish(
        self, key: StoredKey, commit_id: str, payload: bytes, *, expires: bool = False, verify: bool = True
    ) -> int:
        """Store a record; return its sequence. `verify` finds out whether it is stored if there is no clear answer."""
        headers = _EXPECTED_SEQUENCE % key.sequence
        if expires:
            headers += self._expiry
        headers += header_block.END
        subject = self._names.turn(key.token)
        limit = self._jetstream.connection.max_payload - len(headers)
        if len(payload) > limit:
            raise RecordTooLarge(subject, len(payload), limit)
        fence, token, before = self.fence, key.token, self._last_sequence
        fence.sending.add(token)
        try:
            sequence = (await self._jetstream.publish(subject, payload, headers=headers)).sequence
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
            if error.err_code == ErrorCode.MESSAGE_TOO_LARGE:
                raise RecordTooLarge(subject, len(payload), await self._stream_limit(len(headers))) from error
            if error.err_code in STORAGE_CODES and await self._is_replicated():
                fence.suspect(token)
                raise Unsettled(f"{subject}: the leader of the stream did not store the record: {error}") from error
            raise NotStored(str(error)) from error
        except BaseException:
            fence.suspect(token)  # This process stops, and the record may be stored.
            raise
        fence.settle(token)
        if sequence > before:
            self._last_sequence = max(self._last_sequence, sequence)
        elif self.on_loss is not None:
            self.on_loss()
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
