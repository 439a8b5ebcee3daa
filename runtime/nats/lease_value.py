"""The value of a lease as it is stored, and what is wrong with one that no process of ours has written."""

import re
from typing import Final

import msgspec

from runtime.nats.jetstream.responses import StoredMessage
from runtime.wire import header_block
from runtime.wire.codec import UNDECODABLE

MAX_TTL: Final = 3600.0
"""Seconds. A longer lifetime of a value counts as none: it would keep a lease long after its holder."""

_OPERATION: Final = b"KV-Operation"
_SECONDS: Final = re.compile(r"(\d{1,9})s?")


class Holder(msgspec.Struct, frozen=True):
    """The holder of a lease, as the value of its key."""

    holder: str
    since: float
    """The time at which the holder was created, in Unix seconds."""
    host: str
    pid: int


def is_released(stored: StoredMessage) -> bool:
    """Return whether a value is the marker of a release."""
    return not stored.payload or is_release(stored.headers)


def is_release(headers: bytes | None) -> bool:
    """Return whether a message with these headers announces a release."""
    return header_block.get(headers, _OPERATION) is not None


def holder_of(stored: StoredMessage) -> Holder | None:
    """Return the holder that a value names, or None if it cannot be read."""
    try:
        return msgspec.json.decode(stored.payload, type=Holder)
    except UNDECODABLE:
        return None


def lifetime(stored: StoredMessage) -> float | None:
    """Return the seconds that the server keeps a value, or None if it has no lifetime of at most an hour."""
    found = _SECONDS.fullmatch(header_block.get(stored.headers, header_block.TTL) or "")
    seconds = float(found[1]) if found is not None else 0.0
    return seconds if 0 < seconds <= MAX_TTL else None


def fault(stored: StoredMessage) -> str:
    """Return what is wrong with a value; empty if nothing is."""
    if holder_of(stored) is None:
        return "cannot be read"
    if lifetime(stored) is None:
        return "has no TTL of at most an hour"
    return ""
