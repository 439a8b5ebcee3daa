"""The one record of a key: its state, the messages it has handled, and what it has not yet published.

It is the body of ``orders.turn.<key>``; the newest one is the truth (architecture.md §4).
"""

import msgspec

from runtime.errors import CodecError

NO_REPLY = msgspec.Raw(b"null")
NO_STATE = NO_REPLY


class Handled(msgspec.Struct, array_like=True):
    """A message that this key has handled: its id, the reply's JSON, and the unix time of the commit.

    Where the message's own time is later (its sender's clock is ahead), it is that: no message that is newer than all that
    left the list can then have been in it.
    """

    id: str
    reply: msgspec.Raw
    time: float


class Outgoing(msgspec.Struct, array_like=True, omit_defaults=True):
    """An event or timer that leaves with the commit. `id` is fixed, so that publishing it again repeats nothing."""

    id: str
    kind: str
    """``e`` an event, ``t`` a timer that is due at once, ``s`` one for later, ``x`` one taken back."""
    name: str
    """The class name of the event or of the command that a timer sends."""
    token: str
    """The key as a subject token: the event's own, or this key's."""
    body: msgspec.Raw
    time: float
    """Unix seconds of the emit; of the firing for a timer."""
    trace: str = ""
    """The trace context of the turn, as header lines."""
    timer: str = ""
    """The name of a timer, unique within its key."""
    schedule: str = ""
    zone: str = ""


class Record(msgspec.Struct, omit_defaults=True):
    """See the module. `state` is ``null`` for a key that was deleted; `evicted_until` is the latest commit time of a handled message that is no longer in the list (0: none left)."""

    turn: str
    """Unique to the commit that wrote this: tells one's own record after a time-out."""
    version: int = 1
    state: msgspec.Raw = NO_STATE
    handled: list[Handled] = msgspec.field(default_factory=list)
    outbox: list[Outgoing] = msgspec.field(default_factory=list)
    evicted_until: float = 0.0


_decode = msgspec.json.Decoder(Record).decode
encode_record = msgspec.json.Encoder().encode


def decode_record(payload: bytes, subject: str) -> Record:
    """Return the record in `payload`; raises `CodecError` naming `subject` where it is none."""
    try:
        return _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CodecError(f"{subject}: stored record is unreadable: {error}") from None


def is_null(raw: msgspec.Raw) -> bool:
    """Whether a stored value is ``null``."""
    return bytes(raw) == b"null"
