"""What is kept in memory for one key of an actor while it is in use."""

import asyncio
from collections import OrderedDict, deque
from typing import Any, Generic, TypeVar

from .ids import id_time
from .mailbox import Lane
from .record import Handled, Outgoing

T = TypeVar("T")

CLOCK_MARGIN = 5.0
"""Seconds by which the clocks of two machines may differ."""


class Key(Lane[T], Generic[T]):
    """What is kept in memory for one key while it is in use. Owned by the turns; leaves when idle."""

    __slots__ = (
        "behind",
        "bytes",
        "committing",
        "forgotten",
        "generation",
        "handled",
        "head",
        "key",
        "left",
        "loaded",
        "loading",
        "marked",
        "marking",
        "outbox",
        "pause",
        "pending",
        "queries",
        "recent",
        "relaying",
        "sequence",
        "settling",
        "staged",
        "state",
        "token",
        "touched",
        "undoing",
    )

    def __init__(self, key: str, token: str) -> None:
        super().__init__()
        self.key = key
        self.token = token
        self.loaded = False
        self.loading: asyncio.Future[None] | None = None
        self.touched = 0.0
        self.queries = 0
        """Queries that run on this key now."""
        self.committing = False
        """Whether a commit of this key is under way; `head` is then the state that further turns run on."""
        self.head: Any = None
        self.staged: list[Any] | None = None
        """Turns that have run on `head` and wait for the next commit."""
        self.generation = 0
        """Grows when what ran on `head` must run again."""
        self.undoing = False
        """Whether a commit has failed, and what runs again is being put in order."""
        self.pending: set[str] | None = None
        """Ids of the turns that are staged or being committed."""
        self.behind = 0
        """The order of the last message that was set aside behind one that failed; 0: the lane is not held back."""
        self.pause = 0.0
        """Seconds after which what must run again does."""
        self.settling: asyncio.Future[None] | None = None
        self.relaying = False
        self.outbox: deque[tuple[Outgoing, int]] | None = None
        """Not yet confirmed events and timers, with the sequence of the record that they came with."""
        self.forget()

    def forget(self) -> None:
        """Drop what was read from the stream; the next turn loads it again."""
        self.loaded = False
        self.state: Any = None
        self.sequence = 0
        self.bytes = 0
        """Of the record at `sequence`."""
        self.handled: list[Handled] = []
        self.marking: set[str] | None = None
        """Ids whose mark is being written."""
        self.marked: set[str] | None = None
        """Ids still in the record whose mark is confirmed: they leave with the next commit."""
        self.recent: OrderedDict[str, float] | None = None
        """Ids that left the record lately, with their commit time: their replies are in their marks."""
        self.left = 0.0
        self.forgotten = 0.0
        """Latest commit time of a handled message that is neither in the record nor in `recent`."""

    @property
    def idle(self) -> bool:
        """Whether nothing runs on this key, waits for it or is still to be published."""
        return not (self.active or self.committing or self.queries or self.outbox or self.loading is not None)

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
        if self.recent is not None and message_id in self.recent:
            return True
        if not self.forgotten:
            return False
        minted = id_time(message_id) or born
        return minted is None or minted <= self.forgotten + CLOCK_MARGIN
