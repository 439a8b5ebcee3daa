"""The unreadable records of one actor: each is logged once, and costs the messages of its key only."""

import logging

from runtime.storage.record import Unreadable

logger = logging.getLogger("actorloom.storage")

_MOST = 1000
"""Subjects that are remembered and logged one by one."""

_NAMED = 3
"""Messages whose reason is in the warning."""


class UnreadableRecords:
    """Remembers the stored messages of an actor that cannot be read.

    Args:
        actor: The name of the actor, for the log.
    """

    __slots__ = ("_actor", "_reasons")

    def __init__(self, actor: str) -> None:
        self._actor = actor
        self._reasons: dict[str, str] = {}
        """By subject."""

    @property
    def warnings(self) -> list[str]:
        """What to report of this process: one text with the number of these messages and some of the reasons."""
        reasons = list(self._reasons.values())
        if not reasons:
            return []
        messages = "1 stored message" if len(reasons) == 1 else f"{len(reasons)} stored messages"
        return [f"{messages} cannot be read: {'; '.join(reasons[:_NAMED])}"]

    def report(self, error: Unreadable, effect: str = "a key is refused, and missing from lists") -> None:
        """Log why a stored message cannot be read, unless it was logged before."""
        reasons = self._reasons
        if reasons.get(error.subject) == error.reason:
            return
        if error.subject not in reasons and len(reasons) == _MOST:
            return
        reasons[error.subject] = error.reason
        logger.error("%s: %s: %s", self._actor, effect, error.reason)
        if len(reasons) == _MOST:
            logger.error(
                "%s: further unreadable records are not logged one by one: see `actorloom doctor`", self._actor
            )

    def forget(self, subject: str) -> None:
        """Take note that a message was read, so that a later fault is logged again."""
        if self._reasons:
            self._reasons.pop(subject, None)
