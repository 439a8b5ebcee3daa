"""The journal of keyed turns: loads the record of a key, and commits the next one.

A commit is one JetStream publish with `Nats-Expected-Last-Subject-Sequence`, the sequence of the record that the turn
began from (ADR 001). Two owners that both believe they own a key therefore cannot both commit: the stream refuses the
second one, which forgets the key, loads the newest record and runs its turns again.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from runtime.errors import ActorError, PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import ApiError, ErrorCode, WrongSequence
from runtime.nats.jetstream.responses import StoredMessage
from runtime.options import Options
from runtime.storage.dedup import DedupStore
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
)
from runtime.storage.state import States
from runtime.storage.unreadable import UnreadableRecords
from runtime.wire import header_block
from runtime.wire.ids import new_id
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
    """

    def __init__(
        self,
        jetstream: JetStream,
        names: Names,
        states: States,
        options: Options,
        on_stored: Callable[[int], None],
        unreadable: UnreadableRecords,
    ) -> None:
        self._jetstream = jetstream
        self._names = names
        self._state_version = states.version
        self.unreadable = unreadable
        self.decode_state = states.decode
        """Return the state in a record; see `States.decode`."""
        self._expiry = header_block.ttl(max(int(options.remember), 1))
        self._writer_id = new_id()
        self._commit_numbers = itertools.count()
        self.unsettled: set[str] = set()
        """The tokens of keys with a commit that is under way, or whose outcome is unknown: it may be stored later."""
        self.dedup = DedupStore(jetstream, names, options, on_stored)
        self.on_change: Callable[[str, Any], None] | None = None
        """A callback with key token and state, called for each state that is loaded or changed by a commit (for indexes)."""

    @property
    def max_body(self) -> int:
        """The largest body of an event or timer, in bytes, that fits a message together with its headers."""
        return self._jetstream.connection.max_payload - _HEADER_ROOM

    async def load(self, key: StoredKey) -> Record | None:
        """Read the newest record of a key from the leader of the stream into `key`.

        Returns:
            The record, whose outbox the caller passes to the relay; None if the key has none.

        Raises:
            PublishError, TimeoutError, ApiError: The stream cannot be read now.
            Unreadable: The record or its state cannot be read; see `decode_record` and `States.decode`. It is logged once.
        """
        stored = await self._jetstream.get_last(self._names.turns_stream, self._names.turn(key.token))
        key.forget()
        record = None
        if stored is not None:
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
        key.loaded = True
        if self.on_change is not None:
            # Usually the state is known already; after a conflict it is that of the other writer.
            self.on_change(key.token, key.state)
        return record

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
            commit_id=f"{self._writer_id}-{next(self._commit_numbers):x}",
            state_version=self._state_version,
            state=msgspec.Raw(body),
            handled=msgspec.Raw(b"[%b]" % text),
            outbox=[entry for entry, _ in key.outbox] + outbox if key.outbox else outbox,
            evicted_until=evicted_until,
        )
        payload = encode_record(record)
        sequence = await self._publish(key, record, payload, expires)
        key.sequence = sequence
        changed, key.state = key.state is not state, state
        key.handled = tuple(listed)
        key.handled_text = text if len(listed) >= _MANY and len(text) <= _MAX_TEXT else b""
        self.dedup.after_commit(key, evicted, evicted_until, len(payload))
        if changed and self.on_change is not None:
            self.on_change(key.token, state)
        return sequence

    async def _publish(self, key: StoredKey, record: Record, payload: bytes, expires: bool) -> int:
        headers = _EXPECTED_SEQUENCE % key.sequence
        if expires:
            headers += self._expiry
        headers += header_block.END
        subject = self._names.turn(key.token)
        limit = self._jetstream.connection.max_payload - len(headers)
        if len(payload) > limit:
            raise RecordTooLarge(subject, len(payload), limit)
        doubtful = key.token in self.unsettled
        self.unsettled.add(key.token)
        try:
            ack = await self._jetstream.publish(subject, payload, headers=headers)
        except TimeoutError:
            sequence = await self._find_stored(subject, record)
            self.unsettled.discard(key.token)
            return sequence
        except WrongSequence:
            self.unsettled.discard(key.token)
            return await self._find_stored(subject, record, refused=True)
        except PublishError as error:
            if not doubtful:
                self.unsettled.discard(key.token)
            if error.err_code == ErrorCode.MESSAGE_TOO_LARGE:
                raise RecordTooLarge(subject, len(payload), await self._stream_limit(len(headers))) from error
            raise NotStored(str(error)) from error
        self.unsettled.discard(key.token)
        return ack.sequence

    async def _stream_limit(self, headers: int) -> int:
        """Return the most bytes of a record that the stream takes, if somebody has given it a limit of its own."""
        try:
            info = await self._jetstream.stream_info(self._names.turns_stream)
        except (ApiError, PublishError, TimeoutError) as error:
            raise NotStored(f"stream {self._names.turns_stream} refuses a record for its size") from error
        return max(int(info.config.get("max_msg_size", 0)) - headers, 0)

    async def _find_stored(self, subject: str, record: Record, refused: bool = False) -> int:
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
            if stored is not None and _is_same(stored, record):
                return stored.sequence
            raise Conflict(f"{subject}: another writer has committed", refused)
        raise Unsettled(f"{subject}: it is not known whether the commit is stored")


def _is_same(stored: StoredMessage, record: Record) -> bool:
    """Return whether a stored message holds `record`."""
    try:
        return decode_record(stored.payload, stored.subject).commit_id == record.commit_id
    except Unreadable:
        return False  # this process has not written it
