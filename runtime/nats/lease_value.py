"""What a lease stores under its key: the value of its holder, and the marker of its release.

A key without either tells how the last holder lost it. The server leaves a marker of its own if a value has expired. It
leaves nothing if somebody purged the key or deleted the bucket, and the marker of a KV client after ``nats kv del``.
"""

import re
from enum import Enum
from typing import Final

import msgspec

from runtime import clocks
from runtime.nats.jetstream.responses import StoredMessage
from runtime.wire import header_block
from runtime.wire.codec import UNDECODABLE

MAX_TTL: Final = 3600.0
"""Seconds. A longer lifetime of a value counts as none: it would keep a lease long after its holder."""

_OPERATION: Final = "KV-Operation"
_RELEASED: Final = "Actorloom-Released"
"""The header with a `Released` as JSON."""

_MARKER_REASON: Final = b"Nats-Marker-Reason"
_EXPIRED: Final = "MaxAge"
"""The reason in the marker that the server leaves if a value has expired."""

_SECONDS: Final = re.compile(r"(\d{1,9})s?")


class Finishing(msgspec.Struct, frozen=True):
    """The messages that a former owner still finishes, after it has handed the lease over."""

    holder: str
    """The name of the former owner."""
    tokens: tuple[str, ...]
    """The tokens of the keys of these messages."""
    seconds: float
    """The time that the former owner may still take, from when this was written. Clocks of machines may differ."""
    until: float = 0.0
    """The end of this time, by `elapsed` of this process."""

    def rewritten(self) -> "Finishing | None":
        """Return this with the time that is left now; None if it is over."""
        left = self.until - clocks.elapsed()
        return msgspec.structs.replace(self, seconds=left) if left > 0 else None

    def read(self) -> "Finishing":
        """Return this with the end of its time by the clock of this process, if it was written just now."""
        return msgspec.structs.replace(self, until=clocks.elapsed() + min(self.seconds, MAX_TTL))


class Holder(msgspec.Struct, frozen=True, omit_defaults=True):
    """The holder of a lease, as the value of its key."""

    holder: str
    since: float
    """The time at which the holder was created, in Unix seconds."""
    host: str
    pid: int
    unclean_at: float = 0.0
    """The time of the last take-over that was not clean, in Unix seconds of the server; 0.0 if that is long ago."""
    left: Finishing | None = None
    """What a former owner still finishes."""


class Released(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the marker of a release says. It has no payload and is a deletion, so KV clients see a deleted key."""

    holder: str
    settled: bool
    """Whether no write of the holder was under way any more, those of `left` excepted."""
    unclean_at: float = 0.0
    left: Finishing | None = None

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers of the marker."""
        return [(_OPERATION, "DEL"), (_RELEASED, msgspec.json.encode(self).decode())]


class Kind(Enum):
    """What a key of a bucket of leases holds."""

    VALUE = "a value of a holder, or one that no process of ours has written"
    RELEASED = "the marker of a release by a process of ours"
    EXPIRED = "the server's marker of a value that has expired"
    DELETED = "nothing, or the marker of somebody who deleted the key"


def kind_of(stored: StoredMessage | None) -> Kind:
    """Return what the newest message of a key is."""
    if stored is None:
        return Kind.DELETED
    if released_by(stored) is not None:
        return Kind.RELEASED
    if header_block.get(stored.headers, _MARKER_REASON) == _EXPIRED:
        return Kind.EXPIRED
    if not stored.payload or is_removal(stored.headers):
        return Kind.DELETED
    return Kind.VALUE


def is_removal(headers: bytes | None) -> bool:
    """Return whether a message with these headers removes a value, by a release or otherwise."""
    return header_block.get(headers, _OPERATION.encode()) is not None


def holder_of(stored: StoredMessage) -> Holder | None:
    """Return the holder that a value names, or None if it cannot be read."""
    try:
        return msgspec.json.decode(stored.payload, type=Holder)
    except UNDECODABLE:
        return None


def value_holder(payload: bytes) -> str | None:
    """Return the name of the holder in the value of a lease, or None if it cannot be read."""
    try:
        return msgspec.json.decode(payload, type=Holder).holder
    except UNDECODABLE:
        return None


def released_by(stored: StoredMessage) -> Released | None:
    """Return what the marker of a release says, or None if the message is none."""
    try:
        return msgspec.json.decode(header_block.get(stored.headers, _RELEASED.encode()) or "", type=Released)
    except UNDECODABLE:
        return None


def left_in(stored: StoredMessage | None) -> Finishing | None:
    """Return the keys that a former owner still finishes, by the newest message of the lease; None if there are none."""
    if stored is None:
        return None
    said = released_by(stored) or holder_of(stored)
    return said.left if said is not None else None


def lifetime(stored: StoredMessage) -> float | None:
    """Return the seconds that the server keeps a value, or None if it has no lifetime of at most an hour."""
    return lifetime_in(stored.headers)


def lifetime_in(headers: bytes | None) -> float | None:
    """Return the seconds that the server keeps a value with these headers, or None if it has no lifetime of at most an hour."""
    found = _SECONDS.fullmatch(header_block.get(headers, header_block.TTL) or "")
    seconds = float(found[1]) if found is not None else 0.0
    return seconds if 0 < seconds <= MAX_TTL else None


def fault(stored: StoredMessage) -> str:
    """Return what is wrong with a value; empty if nothing is."""
    if holder_of(stored) is None:
        return "cannot be read"
    if lifetime(stored) is None:
        return "has no TTL of at most an hour"
    return ""
