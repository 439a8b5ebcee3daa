"""What is kept in memory for one key of an actor while it is in use."""

import asyncio
from collections import deque
from typing import Any, Generic, TypeVar

from runtime.storage.key import StoredKey

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


class Key(StoredKey, Generic[T]):
    """What is kept in memory for one key while it is in use: its record, and the lane of its messages.

    Owned by the turns; leaves when idle. The lane holds one running message, and the others in order of arrival; an idle
    key costs no queue.
    """

    __slots__ = ("active", "again", "behind", "pending", "queries", "touched", "waiting")

    def __init__(self, key: str, token: str) -> None:
        super().__init__(key, token)
        self.active = False
        self.waiting: deque[T] | None = None
        self.again: deque[T] | None = None
        """What ran, and must run again before all that waits."""
        self.touched = 0.0
        self.queries = 0
        """Queries that run on this key now."""
        self.pending: Pending | None = None
        """What has run and is not stored yet, where there is any."""
        self.behind = 0
        """The order of the last message that was set aside behind one that failed; 0: the lane is not held back."""

    @property
    def idle(self) -> bool:
        """Whether nothing runs on this key, waits for it or is still to be published."""
        return not (self.active or self.pending or self.queries or self.outbox)

    def enter(self, item: T) -> bool:
        """Return True where `item` may run now; else it waits its turn."""
        if not self.active:
            self.active = True
            return True
        if self.waiting is None:
            self.waiting = deque()
        self.waiting.append(item)
        return False

    def leave(self) -> T | None:
        """The running item is done: return the next, or None when the lane is empty."""
        if self.again:
            return self.again.popleft()
        self.again = None
        if self.waiting:
            return self.waiting.popleft()
        self.waiting = None
        self.active = False
        return None

    def depth(self) -> int:
        """Return how many items wait behind the running one."""
        return len(self.waiting) if self.waiting is not None else 0
