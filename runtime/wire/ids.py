"""Message ids: new ones (UUIDv7), derived ones (UUIDv8), and the time that they carry. Source: RFC 9562.

A new id carries the time of its creation. A key can thereby tell an id that it cannot have handled before from one that it
may have forgotten, and looks up only the latter. A derived id is a function of the handled message and of what its handler
sends: a message that is handled again derives the same ids, and its effects are recognized as duplicates.
"""

import os
import random
import re
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from typing import Final
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
_BATCH_SIZE: Final = 256
"""The number of random parts that are created at once."""
_FIXED_BITS: Final = int.from_bytes(b"\x70\x00\x80\x00" * _BATCH_SIZE)
_RANDOM_BITS: Final = int.from_bytes(b"\x0f\xff\x3f\xff" * _BATCH_SIZE)
"""The third and fourth group of digits of each id of a batch: version 7 and the variant, and the bits that are random."""
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The digit of a UUID that holds its variant, by a random hex digit."""
_KEYS = uuid5(NAMESPACE_OID, "actorloom.new_key")
"""The namespace of the keys that `key_for` returns."""


def new_id(at: float | None = None) -> str:
    """Return a new UUIDv7 of 36 characters: the time to a millisecond, and 74 random bits.

    Args:
        at: The time in Unix seconds, that of the server for the id of a message; by default that of this machine.
    """
    return _clock_part(int((time.time() if at is None else at) * 1000)) + _random_part()


@lru_cache(maxsize=8)  # a burst creates many ids within one millisecond
def _clock_part(millis: int) -> str:
    digits = f"{millis:012x}"
    return f"{digits[:8]}-{digits[8:]}-"


def _new_batch() -> list[str]:
    fixed = int.from_bytes(_random.randbytes(4 * _BATCH_SIZE)) & _RANDOM_BITS | _FIXED_BITS
    groups = fixed.to_bytes(4 * _BATCH_SIZE).hex("-", 2).split("-")
    last = _random.randbytes(6 * _BATCH_SIZE).hex("-", 6).split("-")
    return list(map("-".join, zip(groups[::2], groups[1::2], last, strict=True)))


_batches: Iterator[list[str]] = iter(_new_batch, None)  # endless: `_new_batch` never returns None
_random_part: Callable[[], str] = chain.from_iterable(_batches).__next__
"""Return the random part of a new id. Any thread may call it.

A part of a batch costs a tenth of one that is formatted alone, which was an eighth of `Bus.emit`.
"""


def _after_fork() -> None:
    """Seed the child's generator, and discard the parts that the child shares with its parent."""
    _random.seed()
    for _ in range(_BATCH_SIZE):
        _random_part()


os.register_at_fork(after_in_child=_after_fork)


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
