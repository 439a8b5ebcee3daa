"""The messages that have left the record of a key, or are about to: bookkeeping in memory, without I/O.

A record lists the newest handled messages of its key: `Options.handled` of them at least, and up to three times as many
while their dedup entries are being written. A message leaves the record ("is evicted") only after its dedup entry is
stored, so it can be found in one or the other at any time. See `runtime.storage.dedup` for the entries.
"""

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from runtime.storage.record import Handled
from runtime.wire.ids import CLOCK_MARGIN

MAX_REPLIES: Final = 65_536
"""Bytes of replies that a record lists at most, beyond those whose dedup entry is not stored. A record must fit one message."""

_MAX_RECENT = 65_536
"""Ids of evicted messages that a busy key keeps in memory at most."""


class KeyDedup:
    """The state of the dedup entries of one key. Only a key that has had more messages than its record lists has one.

    Args:
        evicted_until: `Record.evicted_until` of the loaded record.
    """

    __slots__ = (
        "_waiter",
        "bucket",
        "evicted_until",
        "forgotten_until",
        "part",
        "recent",
        "record_size",
        "writing",
        "written",
    )

    def __init__(self, evicted_until: float = 0.0) -> None:
        self.writing: set[str] = set()
        """Ids whose dedup entry has been sent to the stream and is not acknowledged."""
        self.written: set[str] = set()
        """Ids in the record whose dedup entry is stored. They are evicted by the next commit."""
        self.bucket, self.part = -1, 0
        """The time bucket of the last shared entry, and the first part of it that is free."""
        self.recent: OrderedDict[str, float] = OrderedDict()
        """Ids that were evicted lately, with their commit time, oldest first.

        A message needs no look-up if its time is later than `forgotten_until` by the clock margin. An id therefore stays
        in this table until it is older than twice the margin. Otherwise `forgotten_until` would be the present on a busy
        key, and every new message would be looked up.
        """
        self.evicted_until = evicted_until
        """The latest commit time of all messages that were ever evicted."""
        self.forgotten_until = evicted_until
        """The latest commit time of a handled message that is neither in the record nor in `recent`."""
        self.record_size = sys.maxsize
        """The bytes of the record; if this process did not write it, a number above every limit."""
        self._waiter: asyncio.Future[None] | None = None

    def split(self, handled: Sequence[Handled], limit: int) -> tuple[Sequence[Handled], Sequence[Handled]]:
        """Divide the handled messages of a record into those that its successor lists, and those that it evicts.

        Evicted are the messages beyond `limit`, or beyond the bytes of replies that fit, whose dedup entry is stored.
        """
        if not self.written:
            return handled, ()
        excess = count_excess(handled, limit, self.record_size)
        evicted = [entry for entry in handled[:excess] if entry.id in self.written]
        kept = [entry for entry in handled[:excess] if entry.id not in self.written]
        kept += handled[excess:]
        return kept, evicted

    async def wait_written(self) -> None:
        """Return when the outcome of an entry that was being written is known. For the one commit of the key."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def wake(self) -> None:
        """End a call of `wait_written`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def evict(self, evicted: Sequence[Handled], now: float) -> None:
        """Record that messages have left the record at `now`. Their ids stay in memory for twice the clock margin."""
        recent = self.recent
        for entry in evicted:
            if entry.time > now + CLOCK_MARGIN:
                # The sender's clock is far ahead. The id would stay in memory until that time; look its entry up instead.
                self.forgotten_until = max(self.forgotten_until, entry.time)
            else:
                recent[entry.id] = entry.time
            self.written.discard(entry.id)
        horizon = now - 2 * CLOCK_MARGIN
        while recent and (len(recent) > _MAX_RECENT or next(iter(recent.values())) < horizon):
            self.forgotten_until = max(self.forgotten_until, recent.popitem(last=False)[1])


def count_excess(handled: Sequence[Handled], limit: int, record_size: int) -> int:
    """Return how many of the oldest handled messages are too many for a record.

    Args:
        handled: The messages, oldest first.
        limit: The number of messages that the record lists.
        record_size: The bytes of a record that lists all of them. Below `MAX_REPLIES` the replies need not be counted.
    """
    if record_size <= MAX_REPLIES:
        return max(len(handled) - limit, 0)
    replies = 0
    for kept, entry in enumerate(reversed(handled)):
        replies += len(entry.reply)
        if kept >= limit or replies > MAX_REPLIES:
            return len(handled) - kept
    return 0
