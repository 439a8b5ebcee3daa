"""Message ids: new ones (UUIDv7), derived ones (UUIDv8), and the time that they carry. Source: RFC 9562.

A new id carries the time of its creation. A key can thereby tell an id that it cannot have handled before from one that it
may have forgotten, and looks up only the latter. A derived id is a function of the handled message and of what its handler
sends: a message that is handled again derives the same ids, and its effects are recognized as duplicates.
"""

import os
import random
import re
import time
from functools import lru_cache
from hashlib import blake2b
from uuid import NAMESPACE_OID, uuid5

from runtime.errors import CodecError

MAX_ID = 256
"""The most bytes of an id from outside: it is part of the subject of its dedup entry."""

CLOCK_MARGIN = 5.0
"""Seconds by which the clocks of two machines may differ."""

_TIMED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[78][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(?:\..*)?\Z", re.DOTALL)
"""An id that carries a time: a UUID of version 7 or 8, and a suffix after a dot if there is one."""
_random = random.Random()
"""A generator of this module. With the shared one, processes whose handlers seed it would create the same ids."""
os.register_at_fork(after_in_child=_random.seed)
_bits = _random.getrandbits
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The digit of a UUID that holds its variant, by a random hex digit."""
_KEYS = uuid5(NAMESPACE_OID, "actorloom.new_key")
"""The namespace of the keys that `key_for` returns."""


def new_id(at: float | None = None) -> str:
    """Return a new UUIDv7 of 36 characters.

    It has the time to a quarter of a microsecond (RFC 9562, section 6.2) and 62 random bits.

    Args:
        at: The time in Unix seconds, that of the server for the id of a message; by default that of this machine.
    """
    millis, nanos = divmod(time.time_ns() if at is None else int(at * 1e9), 1_000_000)
    clock = f"{millis:012x}"
    bits = f"{0x8000000000000000 | _bits(62):016x}"
    return f"{clock[:8]}-{clock[8:]}-7{nanos * 4096 // 1_000_000:03x}-{bits[:4]}-{bits[4:]}"


def derived_id(parent: str, ordinal: int, sender: str, type_name: str, token: str) -> str:
    """Return the id of a message that the handler of another message sends.

    The type and key are part of it: a handler that takes another path when it runs again sends another message, and must
    not get the reply of the first one. The sender is part of it, since an id stands for one message of one key: a command
    with the same id at another key derives other ids.

    Args:
        parent: The id of the message being handled.
        ordinal: The number of the new message, from 1, in the order in which the handler sends them.
        sender: The actor and the key that handle the parent: ``orders/1``.
        type_name: The type of the new message, such as ``payments.ProcessPayment``.
        token: The key of the new message as a subject token; empty if it has none.

    Returns:
        A UUIDv8 with the time of the parent. If the parent carries no time, the id has the time 0, for which `id_time`
        returns None.
    """
    # The parts beside the sender have no line breaks, so the parts of two sources that are equal are equal too.
    source = f"{parent}\n{ordinal}\n{sender}\n{type_name}\n{token}"
    digest = blake2b(source.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()
    time = parent[:13] if id_time(parent) is not None else "00000000-0000"
    return f"{time}-8{digest[:3]}-{_VARIANT[digest[3]]}{digest[4:7]}-{digest[7:19]}"


@lru_cache(maxsize=1024)  # a turn asks for the time of its id three times
def id_time(message_id: str) -> float | None:
    """Return the time that an id carries, or None if it carries none.

    Args:
        message_id: The id. A dot and the name of a reaction may follow it; they tell the reactions to one event apart.

    Returns:
        Unix seconds, to a millisecond.
    """
    if _TIMED.match(message_id) is None:
        return None
    return int(message_id[:8] + message_id[9:13], 16) / 1000 or None


def is_derived(message_id: str) -> bool:
    """Return whether an id has the form of a derived one. Anybody can write such an id."""
    return len(message_id) == 36 and message_id[14] == "8" and _TIMED.match(message_id) is not None


def accept_id(text: str) -> str | None:
    """Return the id of a message from outside as it is, or None if the text cannot serve as an id.

    An id has 1 to `MAX_ID` bytes of printable text: it becomes part of headers, log lines, and the subject of its dedup
    entry. Printable text contains no line breaks and no lone surrogates, so any header can hold it.
    """
    return text if text.isprintable() and 0 < len(text.encode()) <= MAX_ID else None


def check_id(text: str) -> str:
    """Return an id that a caller has chosen, as it is. Raises `CodecError` if it cannot serve as one; see `accept_id`."""
    if accept_id(text) is None:
        raise CodecError(f"id: {text[:40]!r} is not an id: write 1 to {MAX_ID} bytes of printable text")
    return text


def key_for(command_id: str) -> str:
    """Return the key that a command with ``key=new_key`` creates: a UUIDv5 of its id, the same at every attempt."""
    return str(uuid5(_KEYS, command_id.encode("utf-8", "backslashreplace").decode()))
