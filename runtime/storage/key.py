"""The stored half of a key: its newest record in memory, and the events and timers that are not published yet."""

from collections import deque
from typing import Any

from runtime.storage.dedup import KeyDedup
from runtime.storage.record import Handled, Outgoing
from runtime.wire.ids import CLOCK_MARGIN, id_time


class StoredKey:
    """One key of an actor as its stream has it. The journal loads and commits it; the relay publishes its outbox."""

    __slots__ = ("dedup", "handled", "key", "loaded", "outbox", "sequence", "state", "token")

    def __init__(self, key: str, token: str) -> None:
        self.key = key
        self.token = token
        self.outbox: deque[tuple[Outgoing, int]] | None = None
        """Not yet confirmed events and timers, with the sequence of the record that they came with."""
        self.forget()

    def forget(self) -> None:
        """Drop what was read from the stream; the next turn loads it again."""
        self.loaded = False
        self.state: Any = None
        self.sequence = 0
        self.handled: tuple[Handled, ...] = ()
        self.dedup: KeyDedup | None = None

    def find(self, message_id: str) -> Handled | None:
        """Return the entry of a handled message that is in memory."""
        for entry in reversed(self.handled):
            if entry.id == message_id:
                return entry
        return None

    def may_have_entry(self, message_id: str, sent_at: float | None) -> bool:
        """Whether a message that is not in the record may have been handled all the same: then its dedup entry tells.

        `sent_at` is its time where its id does not carry one (the stream time of an event).
        """
        dedup = self.dedup
        if dedup is None:
            return False
        if message_id in dedup.recent:
            return True
        if not dedup.forgotten_until:
            return False
        created = id_time(message_id) or sent_at
        return created is None or created <= dedup.forgotten_until + CLOCK_MARGIN
