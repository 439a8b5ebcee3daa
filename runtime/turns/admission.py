"""Admission: how many messages may wait, and how a caller learns that there are too many."""

from typing import Protocol

from runtime.errors import Overloaded

TURNS_PER_SECOND = 2000
"""The rate at which a full mailbox of commands is assumed to drain, for `retry_after`."""

QUERIES_PER_SECOND = 5000
"""The rate at which a full mailbox of queries is assumed to drain, for `retry_after`."""

_SHORTEST, _LONGEST = 0.05, 2.0


def retry_after(waiting: int, per_second: int) -> float:
    """Return the seconds after which an overloaded caller may try again: the time to drain `waiting` messages."""
    return round(min(_SHORTEST + waiting / per_second, _LONGEST), 3)


class Waiting(Protocol):
    """A message as admission sees it."""

    counted: bool
    """True while the message is among those that wait."""


class Admission:
    """The mailbox of one actor: counts the messages that wait to run, and refuses more than `limit`.

    A message counts from its admission until it starts to run, and again while a worker is due to rerun it. The flag on
    the message makes both calls idempotent, so that the count cannot drift.
    """

    __slots__ = ("_actor", "_limit", "waiting")

    def __init__(self, actor: str, limit: int) -> None:
        self._actor = actor
        self._limit = limit
        self.waiting = 0
        """Messages that wait to run."""

    def check(self) -> None:
        """Raise `Overloaded` if the mailbox is full."""
        if self.waiting >= self._limit:
            raise self.overloaded(f"the mailbox is full ({self.waiting} messages wait)")

    def overloaded(self, reason: str) -> Overloaded:
        """Return the error for a caller whose message is refused for `reason`."""
        return Overloaded(f"{self._actor}: {reason}", retry_after(self.waiting, TURNS_PER_SECOND))

    def enqueue(self, work: Waiting) -> None:
        """Count `work` among the messages that wait."""
        if not work.counted:
            work.counted = True
            self.waiting += 1

    def dequeue(self, work: Waiting) -> None:
        """Stop counting `work`: it runs now, or never will."""
        if work.counted:
            work.counted = False
            self.waiting -= 1
