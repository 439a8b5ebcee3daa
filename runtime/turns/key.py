"""What is kept in memory for one key of an actor while it is in use."""

import asyncio
from collections import deque
from typing import Any, Generic, TypeVar

from runtime.storage.dedup import Marks
from runtime.storage.record import Handled, Outgoing
from runtime.turns.workers import Lane
from runtime.wire.ids import CLOCK_MARGIN, id_time

T = TypeVar("T")


class Pending:
    """The turns of a key that have run and are not stored yet."""

    __slots__ = ("committing", "head", "ids", "settling", "staged", "undone")

    def __init__(self) -> None:
        self.committing = False
        """Whether a commit is under way; further turns run on `head`."""
        self.head: Any = None
        """The state that all of them leave."""
        self.staged: list[Any] = []
        """Turns that have run on `head` and wait for the next commit."""
        self.ids: set[str] = set()
        """Ids of the turns that are staged or being committed."""
        self.undone = False
        """Whether a commit has failed: what ran on `head` runs again."""
        self.settling: asyncio.Future[None] | None = None
        """Ends with the last commit."""


class Key(Lane[T], Generic[T]):
    """What is kept in memory for one key while it is in use. Owned by the turns; leaves when idle."""

    __slots__ = (
        "behind",
        "handled",
        "key",
        "loaded",
        "marks",
        "outbox",
        "pending",
        "queries",
        "sequence",
        "state",
        "token",
        "touched",
    )

    def __init__(self, key: str, token: str) -> None:
        super().__init__()
        self.key = key
        self.token = token
        self.loaded = False
        self.touched = 0.0
        self.queries = 0
        """Queries that run on this key now."""
        self.pending: Pending | None = None
        """What has run and is not stored yet, where there is any."""
        self.behind = 0
        """The order of the last message that was set aside behind one that failed; 0: the lane is not held back."""
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

    @property
    def idle(self) -> bool:
        """Whether nothing runs on this key, waits for it or is still to be published."""
        return not (self.active or self.pending or self.queries or self.outbox)

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
