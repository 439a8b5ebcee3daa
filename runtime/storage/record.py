"""The record of a key: its state, the messages it has handled, and its unpublished events, timers and commands by `tell`.

A record is the body of one message on ``orders.turn.<key>``, and the newest one is the truth about its key. All effects
of a turn are in the same record, so they are stored together or not at all (ADR 001).
"""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from runtime.errors import CodecError, NotDelivered
from runtime.wire.codec import UNDECODABLE
from runtime.wire.subjects import valid_name
from runtime.wire.tokens import token_key, token_of

FORMAT: Final = 2
"""The highest version of the record's own format that this module knows.

Raise it if older code would misread a new record. A field that older code may ignore needs no new format. A record has the
lowest format that can hold it, so that an earlier version reads all others: `lowest_format`.
"""

_FIRST, _SECOND = 1, 2
"""The formats of most records, and of one with commands by `tell` or checkpoints of jobs."""

NO_STATE: Final = msgspec.Raw(b"null")
"""The stored state of a key that has none."""


class Handled(msgspec.Struct, array_like=True, gc=False):
    """A message that this key has handled.

    If it is handled again, it gets this reply, and has no further effect. It refers to no object that can refer to it, so Python's
    garbage collector need not look at the many of them that are in memory.
    """

    id: str
    reply: msgspec.Raw
    """JSON; of a command in another format, a JSON string with the base64 of the reply."""
    time: float
    """Commit time in Unix seconds, or the message's own time if that is later (the clock of its sender is ahead).

    A message that is newer than every evicted entry is therefore certainly not among them.
    """
    fingerprint: str
    """Of the message; see `runtime.wire.fingerprint`. Under the same id, only the same message gets the reply."""


class Kind(StrEnum):
    """The kind of an outbox entry. A record stores its letter."""

    EVENT = "e"
    TIMER = "t"
    """A timer that is due at once."""
    SCHEDULE = "s"
    """A timer for later, once or repeatedly."""
    CANCEL = "x"
    """The removal of a timer."""
    TELL = "c"
    """A command by `tell`."""


EVENT, TIMER, SCHEDULE, CANCEL, TELL = Kind
"""The kinds as globals. On the path of every turn, an attribute of an enum costs 900 instructions more."""


class Outgoing(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """An event, a timer or a command by `tell` that a turn leaves, and that the relay publishes once the turn is stored."""

    id: str
    """Fixed when the turn runs, so that receivers recognize an entry that is published twice."""
    kind: Kind
    name: str
    """The class name of the event, or of the command that a timer or a `tell` sends."""
    token: str
    """A key as a subject token: that of the event or command, or that of the key which set the timer."""
    body: msgspec.Raw
    """JSON."""
    time: float
    """Unix seconds: when an event was emitted, or when a timer fires or a command by `tell` is due; 0 for one that is due at once."""
    trace: str = ""
    """The trace context of the turn, as header lines."""
    timer: str = ""
    """The name of a timer, unique within its key."""
    schedule: str = ""
    """The pattern of a timer that repeats, in the syntax of NATS; empty if it fires once."""
    zone: str = ""
    """The time zone of the pattern; empty for UTC."""
    target: str = ""
    """The actor of a command by `tell`; empty for anything else."""


class Record(msgspec.Struct, omit_defaults=True):
    """See the module."""

    commit_id: str
    """Unique to the commit that wrote this record. After a time-out, a writer recognizes its own record by it."""
    state_version: int = 1
    """The application's version of the state (`Actor.state_version`)."""
    state: msgspec.Raw = NO_STATE
    """JSON; ``null`` for a key that has no state, or whose state was deleted."""
    handled: list[Handled] = msgspec.field(default_factory=list)
    """The latest handled messages, oldest first."""
    outbox: list[Outgoing] = msgspec.field(default_factory=list)
    """Entries of this and earlier turns that may be unpublished, in the order in which they are published."""
    evicted_until: float = 0.0
    """The latest `Handled.time` of all messages that `handled` has ever evicted; 0 if none was evicted."""
    format: int = _FIRST
    """The version of the record's own format. Format 1 is not written out."""
    jobs: dict[str, int] = {}
    """The long jobs that have made checkpoints and have not ended, by id, each with the number of its last checkpoint."""


class NewRecord(Record):
    """A record that is written, with `handled` as JSON: most of its messages are those of the record before."""

    handled: msgspec.Raw = msgspec.Raw(b"[]")  # pyright: ignore[reportIncompatibleVariableOverride]


class Unreadable(NotDelivered):
    """The record of one key, or a part of it, cannot be read (503). It fails the messages of that key only.

    Args:
        subject: The subject of the stored message.
        text: The text for the caller.
        reason: The text for the log, with the cause; by default `text`.
        newer_format: A newer version of this package wrote the record, and can read it and publish its outbox.
    """

    def __init__(self, subject: str, text: str, reason: str = "", *, newer_format: bool = False) -> None:
        super().__init__(text)
        self.subject = subject
        self.reason = reason or text
        self.newer_format = newer_format


class _Format(msgspec.Struct):
    """The one field of a record that every format has."""

    format: int = 1


_decode = msgspec.json.Decoder(Record).decode
_decode_format = msgspec.json.Decoder(_Format).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_entries = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_outgoing = msgspec.json.Decoder(Outgoing).decode

_IS_TOKEN = re.compile(r"[A-Za-z0-9_\-=+@,;:%]+\Z").match
"""Matches the tokens of keys, and no other text."""

_LAST_TIME: Final = 253_402_300_800.0
"""Unix seconds: the end of the year 9999, the last that RFC 3339 can write."""

encode_record = msgspec.json.Encoder().encode
"""Encode a record, or a part of one, as JSON."""


def lowest_format(outbox: Sequence[Outgoing], jobs: dict[str, int]) -> int:
    """Return the format of a record with an outbox and the checkpoints of jobs."""
    if jobs:
        return _SECOND
    for entry in outbox:
        if entry.kind is TELL:
            return _SECOND
    return _FIRST


def join_handled(text: bytes, more: Sequence[Handled]) -> bytes:
    """Return the JSON of handled messages without brackets: `text` and `more`, either of which may be empty."""
    own = encode_record(more)[1:-1]
    return text + b"," + own if text and own else text or own


EDITED = "edited"
"""The field of a record that a person has edited (``actorloom import``): who it was. The next commit of its key leaves it out."""


def record_fields(payload: bytes) -> dict[str, msgspec.Raw]:
    """Return the fields of a record that can be read, those that `Record` does not have included."""
    return _decode_fields(payload)


def rewrite_record(
    payload: bytes, commit_id: str, outbox: set[str], changes: Mapping[str, msgspec.Raw] | None = None
) -> bytes:
    """Return a record with another commit id, with those entries of its outbox whose id is in `outbox`, and with other fields.

    All else stays as it is: values of a newer version of this package, which `Record` does not have, are not lost.
    """
    fields = _decode_fields(payload) | dict(changes or {})
    fields["commit_id"] = msgspec.Raw(encode_record(commit_id))
    if "outbox" in fields:
        entries = _decode_entries(fields.pop("outbox"))
        if left := [raw for raw in entries if _decode_outgoing(raw).id in outbox]:
            fields["outbox"] = msgspec.Raw(encode_record(left))
    return encode_record(fields)


def decode_record(payload: bytes, subject: str) -> Record:
    """Return the record in the body of a message.

    Args:
        payload: The body.
        subject: The subject of the message, for error texts.

    Raises:
        Unreadable: The body is not a record, or a newer version of this package wrote it, in a format that this one does
            not know.
    """
    try:
        record = _decode(payload)
    except UNDECODABLE as error:
        # A newer format need not decode as this one.
        _refuse_newer_format(_read_format(payload), subject)
        raise unreadable(subject, f"the stored record is unreadable: {error}") from None
    _refuse_newer_format(record.format, subject)
    for entry in record.outbox:
        if not _is_publishable(entry):
            raise unreadable(subject, f"the outbox of the stored record has an invalid entry {entry.id[:40]!r}")
    return record


def unreadable(subject: str, reason: str) -> Unreadable:
    """Return the error of a record that cannot be read. Its caller learns the subject, and the log has the reason."""
    text = f"{subject}: the stored record cannot be read; the log of the service has the reason"
    return Unreadable(subject, text, f"{subject}: {reason}")


def check_subject(subject: str, prefix: str) -> str:
    """Return the key token of a record's subject, which follows `prefix`.

    Raises:
        Unreadable: No key has this token, so no process of this package wrote the message.
    """
    token = subject.removeprefix(prefix)
    try:
        if token_of(token_key(token)) == token:
            return token
    except CodecError:
        pass
    raise unreadable(subject, "the subject is not that of a key")


def is_null(raw: msgspec.Raw) -> bool:
    """Return whether a stored value is ``null``."""
    return bytes(raw) == b"null"


def _read_format(payload: bytes) -> int:
    try:
        return _decode_format(payload).format
    except UNDECODABLE:
        return _FIRST


def _is_publishable(entry: Outgoing) -> bool:
    """Return whether a subject and header lines can be made of an entry. Those of this package's own records always can."""
    names = (entry.id, entry.timer, entry.schedule, entry.zone)
    return (
        entry.name.isidentifier()
        and valid_name(entry.target) is (entry.kind is TELL)
        and _IS_TOKEN(entry.token) is not None
        and 0 <= entry.time < _LAST_TIME
        and not any("\r" in name or "\n" in name for name in names)
    )


def _refuse_newer_format(found: int, subject: str) -> None:
    if found > FORMAT:
        raise Unreadable(
            subject,
            f"{subject}: the record was written by a newer version of actorloom "
            f"(record format {found}; this process knows {FORMAT})",
            newer_format=True,
        )
