"""The stored half of a key: its newest record in memory, and the events and timers that are not published yet."""

from collections import deque
from typing import Any

from runtime.storage.dedup import Marks
from runtime.storage.record import Handled, Outgoing
from runtime.wire.ids import CLOCK_MARGIN, id_time


class StoredKey:
    """One key of an actor as its stream has it. The journal loads and commits it; the relay publishes its outbox."""

    __slots__ = ("handled", "key", "loaded", "marks", "outbox", "sequence", "state", "token")

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
        self.marks: Marks | None = None

    def find(self, message_id: str) -> Handled | None:
        """Return the entry of a handled message that is in memory."""
        for entry in reversed(self.handled):
            if entry.id == message_id:
                return entry
        return None

    def may_be_marked(self, message_id: str, born: float | None) -> bool:
        """Whether a message that is not in the record may have been handled all the same: then its mark tells.

        `born` is its time where its id does not carry one (the stream time of an event).
        """
        marks = self.marks
        if marks is None:
            return False
        if message_id in marks.recent:
            return True
        if not marks.forgotten:
            return False
        minted = id_time(message_id) or born
        return minted is None or minted <= marks.forgotten + CLOCK_MARGIN
