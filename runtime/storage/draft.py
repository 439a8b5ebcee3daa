"""Drafts: the next record of a key as one message of the turns stream, before it is sent."""

import itertools
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from runtime.errors import ActorError
from runtime.nats.connection import Connection
from runtime.options import Options
from runtime.storage.dedup import DedupStore
from runtime.storage.key import StoredKey
from runtime.storage.record import (
    CANCEL,
    SCHEDULE,
    Handled,
    NewRecord,
    Outgoing,
    encode_record,
    join_handled,
    lowest_format,
    rewrite_record,
)
from runtime.wire import header_block
from runtime.wire.subjects import Names

_EXPECTED_SEQUENCE = header_block.START + header_block.line(header_block.EXPECTED_SEQUENCE, b"%d")
"""The beginning of a commit's header block."""

_HEADER_ROOM = 4096
"""Bytes of a message that are kept free for the headers of an event or timer."""

_MANY, _MAX_TEXT = 4, 16_384
"""The JSON of so many handled messages is kept for the next record of the key, if it has no more than these bytes."""


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
    jobs: dict[str, int] = {}
    """The long jobs in the record that have made checkpoints."""
    before: int = 0
    """The highest sequence of a commit of this process when the record was sent."""

    @property
    def kept_text(self) -> bytes:
        """The JSON of the handled messages, if the next record of the key is made from it; empty otherwise."""
        return self.text if len(self.listed) >= _MANY and len(self.text) <= _MAX_TEXT else b""


class Drafts:
    """Makes the drafts of one actor type. Nothing is sent here, and no key changes.

    Args:
        connection: Tells how large a message may be.
        names: The names of the actor; its turns stream holds the records.
        options: `remember` is used.
        state_version: The version of the actor's states.
        writer_id: The first part of the commit ids; see `Fence`.
        dedup: Tells which handled messages leave a record.
    """

    def __init__(
        self,
        connection: Connection,
        names: Names,
        options: Options,
        state_version: int,
        writer_id: str,
        dedup: DedupStore,
    ) -> None:
        self._connection = connection
        self._names = names
        self._expires = header_block.ttl(max(int(options.remember), 1)) + header_block.END
        self._state_version = state_version
        self._writer_id = writer_id
        self._numbers = itertools.count()
        self._dedup = dedup

    @property
    def max_body(self) -> int:
        """The largest body of an event or timer, in bytes, that fits a message together with its headers."""
        return self._connection.max_payload - _HEADER_ROOM

    def make(
        self,
        key: StoredKey,
        state: Any,
        body: bytes,
        handled: list[Handled],
        outbox: list[Outgoing],
        jobs: dict[str, int] | None = None,
        *,
        expires: bool = False,
        alone: bool = False,
    ) -> Draft:
        """Return the next record of a key.

        Args:
            key: The key, loaded.
            state: The state that the turns leave; None deletes it.
            body: The JSON of the state.
            handled: The messages that the turns have handled.
            outbox: The entries that the turns leave. Entries of earlier turns that are not confirmed
                yet are carried over from `key.outbox`, except for a timer that a later entry replaces or cancels.
            jobs: The long jobs that have made checkpoints, with the number of the last one.
            expires: Let the record expire after `Options.remember`. Only for a record that never replaces another:
                nats-server 2.15.1 restores an overwritten message if the newer one expires and the server is killed.
                The record of a deleted key therefore stays.
            alone: List no earlier handled messages in the record. `DedupStore.move_out` must have stored their entries.

        Raises:
            RecordTooLarge: The record does not fit one message.
        """
        kept, evicted = self._dedup.split(key, alone)
        evicted_until = key.dedup.evicted_until if key.dedup is not None else 0.0
        if evicted:
            evicted_until = max(evicted_until, *(entry.time for entry in evicted))
        listed = (*kept, *handled)
        if evicted or not key.handled_text:
            text = join_handled(b"", listed)
        else:
            text = join_handled(key.handled_text, handled)
        commit_id, jobs = self._new_commit_id(), jobs or {}
        entries = _without_replaced([entry for entry, _ in key.outbox] + outbox if key.outbox else outbox)
        record = NewRecord(
            commit_id=commit_id,
            state_version=self._state_version,
            state=msgspec.Raw(body),
            handled=msgspec.Raw(b"[" + text + b"]"),
            outbox=entries,
            evicted_until=evicted_until,
            format=lowest_format(entries, jobs),
            jobs=jobs,
        )
        return self._address(
            key, commit_id, encode_record(record), expires, state, listed, text, evicted, evicted_until, jobs
        )

    def copy(self, key: StoredKey, record: bytes, short: bool = False) -> Draft:
        """Return a stored record under a new commit id, without the part of its outbox that is confirmed.

        Args:
            key: The key.
            record: The body of its newest record.
            short: Choose a short commit id: the record fills a message, and the one that it has is a little shorter than others.

        Raises:
            RecordTooLarge: The record does not fit one message.
        """
        unconfirmed = {entry.id for entry, _ in key.outbox or ()}
        commit_id = secrets.token_hex(8) if short else self._new_commit_id()
        return self._address(key, commit_id, rewrite_record(record, commit_id, unconfirmed))

    def _new_commit_id(self) -> str:
        return f"{self._writer_id}-{next(self._numbers):x}"

    def _address(self, key: StoredKey, commit_id: str, payload: bytes, expires: bool = False, *rest: Any) -> Draft:
        """Return a record with its subject and headers, and the `rest` of its fields.

        Raises:
            RecordTooLarge: It does not fit one message.
        """
        headers = _EXPECTED_SEQUENCE % key.sequence + (self._expires if expires else header_block.END)
        subject = self._names.turn(key.token)
        limit = self._connection.max_payload - len(headers)
        if len(payload) > limit:
            raise RecordTooLarge(subject, len(payload), limit)
        return Draft(key, commit_id, subject, headers, payload, *rest)


def _without_replaced(outbox: list[Outgoing]) -> list[Outgoing]:
    """Return the entries without each timer that a later entry of its name replaces or cancels.

    A new owner publishes what the record has. It may do so after the later timer has fired, and after the server has forgotten
    the id of the earlier one: a server that starts again knows the ids of stored messages only, and that one was purged.
    """
    if len(outbox) < 2:
        return outbox
    last = {(entry.token, entry.timer): entry for entry in outbox if entry.timer}
    if not last:
        return outbox
    return [
        entry for entry in outbox if entry.kind not in (SCHEDULE, CANCEL) or last[(entry.token, entry.timer)] is entry
    ]
