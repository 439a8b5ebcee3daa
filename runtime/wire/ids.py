"""Message ids: minted (UUIDv7), derived (UUIDv8), and the time that they carry. Source: RFC 9562.

An id minted here carries the time of its minting, so that a key can tell an id that it cannot have handled from one that
it may have forgotten (architecture.md §4). Derived ids are a function of their parent and an ordinal: a message that is
handled again derives the same ones, and so repeats nothing.
"""

import os
import random
import re
import time
from functools import lru_cache
from hashlib import blake2b
from uuid import NAMESPACE_OID, UUID, uuid5

MAX_ID = 256
"""The most bytes of an id from outside: it is part of the subject of its dedup entry."""

CLOCK_MARGIN = 5.0
"""Seconds by which the clocks of two machines may differ."""

_TIMED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[78][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(?:\..*)?\Z", re.DOTALL)
# Our own generator: a handler that seeds the module's must not make two processes mint the same ids.
_random = random.Random()
os.register_at_fork(after_in_child=_random.seed)
_bits = _random.getrandbits
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_KEYS = uuid5(NAMESPACE_OID, "actorloom.new_key")


def new_id() -> str:
    """Return a fresh UUIDv7 in its 36-character form: the time to a quarter of a microsecond (RFC 9562, 6.2), and 62 random bits."""
    millis, rest = divmod(time.time_ns(), 1_000_000)
    clock = f"{millis:012x}"
    bits = f"{0x8000000000000000 | _bits(62):016x}"
    return f"{clock[:8]}-{clock[8:]}-7{rest * 4096 // 1_000_000:03x}-{bits[:4]}-{bits[4:]}"


def derived_id(parent: str, ordinal: int) -> str:
    """Return the id of the `ordinal`-th message that handling `parent` gives rise to.

    It carries the parent's time; where the parent has none, the time is 0, which `id_time` reads as none.
    """
    digest = blake2b(f"{parent}/{ordinal}".encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()
    time = parent[:13] if id_time(parent) is not None else "00000000-0000"
    return f"{time}-8{digest[:3]}-{_VARIANT[digest[3]]}{digest[4:7]}-{digest[7:19]}"


@lru_cache(maxsize=1024)  # within one turn it is asked for three times
def id_time(message_id: str) -> float | None:
    """Return the time that `message_id` carries, in unix seconds (to a millisecond), or None where it carries none.

    A dot and a reaction's name may follow: that is how the reactions to one event are told apart.
    """
    if _TIMED.match(message_id) is None:
        return None
    return int(message_id[:8] + message_id[9:13], 16) / 1000 or None


def key_for(command_id: str) -> str:
    """Return the key that a command with ``key=new_key`` creates: a UUIDv5 of its id, the same at every retry."""
    return str(uuid5(_KEYS, command_id.encode("utf-8", "backslashreplace").decode()))


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in its canonical form."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
