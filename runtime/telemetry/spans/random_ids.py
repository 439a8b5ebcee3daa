"""Random ids of spans and traces, as lower-case hex digits in bytes.

Ids are created in batches, because an id created alone costs ten times as much as one of a batch.
"""

import os
import random
from binascii import hexlify
from collections.abc import Callable, Iterator
from itertools import chain

_BATCH_SIZE = 256
"""The number of span ids created at once."""

_random = random.Random()
"""A generator of our own: a handler that calls `random.seed` must not make two processes create the same ids."""


def _new_batch() -> list[bytes]:
    return hexlify(_random.randbytes(8 * _BATCH_SIZE), b"-", 8).split(b"-")


_batches: Iterator[list[bytes]] = iter(_new_batch, None)
"""An endless iterator over batches: it calls `_new_batch` until that returns None, which never happens.

Unlike a generator, it may be shared by threads.
"""

new_id: Callable[[], bytes] = chain.from_iterable(_batches).__next__
"""Return a new span id: 16 hex digits. Any thread may call it.

This is the `__next__` of an iterator over the ids of all batches. The call never leaves C except to create a batch; an
object with a `__call__` method takes nearly three times as long, and each span needs an id.
"""


def new_trace() -> bytes:
    """Return a new trace id: 32 hex digits."""
    return new_id() + new_id()


def _after_fork() -> None:
    """Seed the child's generator, and discard the ids of the batch that the child shares with its parent."""
    _random.seed()
    for _ in range(_BATCH_SIZE):
        new_id()


os.register_at_fork(after_in_child=_after_fork)
