"""A key in memory: its stored record, and the lane in which its messages run one at a time.

The states of a key, and the methods that change them (`Turns` and `Commits` call them)::

              enter             worker             handler done, nothing to store
    (idle) ──────────▶ waiting ────────▶ running ─────────────────────────────────▶ answered ─▶ leave
                          ▲                │  │ │
            requeue, in   │   failed       │  │ └── id already handled ─▶ answered with the stored reply
            order of      │◀── block ◀─────┘  │
            arrival       │                   ▼ Pending.stage (at most 64 behind one commit; the next runs on its head)
                          │               committing ─── stored ─▶ outbox to the relay, answered
                          └─── Pending.undo ◀──── │
                               (conflict, not stored, outcome unknown: the key forgets its record, and
                                every turn that ran on the lost state runs again)

While a commit is under way the lane is free: further messages run on `Pending.head`, the state which that commit will
leave, and are staged for the commit after it.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from runtime.storage.draft import Draft
from runtime.storage.key import StoredKey


class Ordered(Protocol):
    """A message in a lane."""

    order: int
    """Its place in the order of arrival."""


T = TypeVar("T", bound=Ordered)


class Pending(msgspec.Struct, eq=False):
    """The turns of a key that have run and are not stored yet.

    Lives from the first staged turn until every staged turn is committed or undone.
    """

    committing: bool = False
    """True while a commit is under way."""
    head: Any = None
    """The state that all staged turns leave; further turns run on it."""
    staged: list[Any] = []
    """Turns that wait for the next commit, in order."""
    batch: list[Any] = []
    """Turns of the commit that is under way, until they have taken effect."""
    draft: Draft | None = None
    """The record of `batch`, if it is sent, and its answer calls back."""
    error: Exception | None = None
    """The answer, if it was none that settles whether `draft` is stored."""
    generation: int = 0
    """That of the key before its first commit here. If the key is read anew, the staged turns ran on another state."""
    ids: set[str] = set()
    """Message ids of the turns that are staged or being committed."""
    undone: bool = False
    """True after a commit has failed: every turn that ran on `head` must run again."""
    ended: bool = False
    """True once the last commit has ended, well or badly."""
    _committed: asyncio.Future[None] | None = None

    def stage(self, turn: Any, message_id: str, state: Any) -> None:
        """Add a turn that has run and leaves `state` to the next commit."""
        self.staged.append(turn)
        self.ids.add(message_id)
        self.head = state

    def undo(self) -> tuple[list[Any], list[Any]]:
        """Give up the state in `head`; return the turns of the commit under way, and those staged for later ones."""
        self.undone = True
        batch, later = self.batch, self.staged
        self.batch, self.staged, self.ids = [], [], set()
        return batch, later

    async def wait_committed(self) -> None:
        """Return when the last commit has ended, well or badly."""
        if self._committed is None:
            self._committed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._committed)

    async def wait_stored(self) -> bool:
        """Wait until the turns staged so far are stored or undone. Return whether they are stored."""
        if not self.undone and not self.ended:
            await self.wait_committed()
        return not self.undone

    def end(self) -> None:
        """Wake all callers of `wait_committed` and `wait_stored`."""
        self.ended = True
        if self._committed is not None:
            self._committed.set_result(None)


class Key(StoredKey, Generic[T]):
    """One key while it is in use. Owned by the turns; leaves memory when idle.

    The lane holds one running message and the others in order of arrival. Its queues are created on demand: an idle key
    has none.
    """

    __slots__ = ("active", "blocked_until", "pending", "queries", "rerun", "seen", "touched", "touching", "waiting")

    def __init__(self, key: str, token: str) -> None:
        super().__init__(key, token)
        self.active = False
        """True while a message of this key runs, or is about to."""
        self.waiting: deque[T] | None = None
        """Messages behind the running one."""
        self.rerun: deque[T] | None = None
        """Messages that ran on a state which was not stored. They run again before all that wait."""
        self.pending: Pending | None = None
        """Turns that have run and are not stored yet, if any."""
        self.blocked_until = 0
        """Order of the last message that was parked behind a failing one; 0 if the lane is not blocked."""
        self.touched = 0.0
        """Monotonic time of the last use, for eviction."""
        self.queries = 0
        """Queries of this key that run now."""
        self.touching: asyncio.Future[None] | None = None
        """Ends with the touch of the record that is under way, if one is. A commit waits for it."""
        self.seen = 0
        """The number of the read that found no record of this key last."""

    @property
    def idle(self) -> bool:
        """True if no message or query of this key runs or waits, and its outbox is empty."""
        return not (self.active or self.pending or self.queries or self.outbox)

    @property
    def depth(self) -> int:
        """How many messages wait behind the running one."""
        return len(self.waiting) if self.waiting is not None else 0

    def enter(self, item: T) -> bool:
        """Return True if `item` may run now; otherwise queue it."""
        if not self.active:
            self.active = True
            return True
        if self.waiting is None:
            self.waiting = deque()
        self.waiting.append(item)
        return False

    def leave(self) -> T | None:
        """End the running message: return the next one, or None if the lane is empty."""
        if self.rerun:
            return self.rerun.popleft()
        self.rerun = None
        if self.waiting:
            return self.waiting.popleft()
        self.waiting = None
        self.active = False
        return None

    def requeue(self, items: Iterable[T]) -> None:
        """Queue `items` to run again, in order of arrival with those that must run again already."""
        self.rerun = deque(sorted([*items, *(self.rerun or ())], key=lambda item: item.order))

    def must_yield(self, item: T) -> bool:
        """Return True if a message that arrived before `item` has to run again first."""
        return bool(self.rerun) and self.rerun[0].order < item.order

    def take_rerun(self) -> list[T]:
        """Return the messages that must run again, and remove them from the lane."""
        taken, self.rerun = list(self.rerun or ()), None
        return taken

    def block(self, order: int) -> None:
        """Block the lane for messages up to `order`, which waits for another attempt."""
        self.blocked_until = max(self.blocked_until, order)
