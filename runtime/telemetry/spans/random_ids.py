"""Random ids of spans and traces, as lower-case hex: made by the hundred, since one at a time costs ten times as much."""

import os
import random
from binascii import hexlify
from collections.abc import Callable
from itertools import chain

_AT_ONCE = 256

# Our own generator: a handler that seeds the module's must not make two processes mint the same ids.
_random = random.Random()


def _some() -> list[bytes]:
    return hexlify(_random.randbytes(8 * _AT_ONCE), b"-", 8).split(b"-")


new_id: Callable[[], bytes] = chain.from_iterable(iter(_some, None)).__next__
"""Return a new span id: 16 hex digits. May be called in any thread."""


def new_trace() -> bytes:
    """Return a new trace id: 32 hex digits."""
    return new_id() + new_id()


def _forked() -> None:
    _random.seed()
    for _ in range(_AT_ONCE):  # what the parent goes on to use
        new_id()


os.register_at_fork(after_in_child=_forked)
