"""The fence: which keys a former owner may still write, so that their state is not shown before that is excluded (ADR 016).

A commit that a former owner has sent may be stored at any time, as long as its key has no newer record. So the state that a
new owner has read may be replaced behind its back. The new owner excludes that by a record of its own: a commit of the
key, or a *touch*, which writes the same record again. Both carry the sequence of the record before, and whatever the
former owner has sent carries the same one, and is refused.

A touch is needed after a take-over that was not clean, for a key whose newest record another owner wrote. It is needed as
well for a *suspect*: a key with a commit of this owner whose outcome is unknown, and which may still be stored. All of this
ends after ten minutes: nats-server has given up a connection that holds up a message for so long.
"""

from typing import Final

from runtime import clocks
from runtime.wire.ids import new_id

FENCED_FOR: Final = 600.0
"""Seconds after which a message that was sent is stored or lost."""

_MAX_SUSPECTS: Final = 10_000
"""Suspects that are remembered one by one. If there are more, every key is one."""


class Fence:
    """The fence of one ownership.

    Args:
        seconds: The seconds for which former owners may still write; 0 after a clean take-over.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.writer_id = new_id()
        """The first part of the `commit_id` of every record that this ownership writes."""
        self._own = f"{self.writer_id}-"
        now = clocks.elapsed()
        self._until = now + min(seconds, FENCED_FOR)
        self._all_until = now
        """The time until which every key is a suspect."""
        self.sending: set[str] = set()
        """The tokens of keys with a commit or touch that is under way."""
        self._suspects: dict[str, float] = {}
        """The suspects, by token, each with the time at which it ends to be one, in the order of these times."""

    def needed(self, token: str, commit_id: str | None) -> bool:
        """Return whether another record of a key may be stored that its owner does not know of.

        Args:
            token: The key.
            commit_id: The id of its newest record; None if it has none.
        """
        now = clocks.elapsed()
        if now < self._until and not (commit_id is not None and self.is_own(commit_id)):
            return True
        return now < self._all_until or (bool(self._suspects) and self._suspects.get(token, now) > now)

    def is_own(self, commit_id: str) -> bool:
        """Return whether this ownership wrote the record with a `commit_id`."""
        return commit_id.startswith(self._own)

    def suspect(self, token: str) -> None:
        """Remember that a commit of a key may be stored later: it was sent, and its outcome is unknown."""
        now = clocks.elapsed()
        self.sending.discard(token)
        suspects = self._suspects
        suspects.pop(token, None)
        while suspects and (len(suspects) >= _MAX_SUSPECTS or next(iter(suspects.values())) <= now):
            if suspects.pop(next(iter(suspects))) > now:
                self._all_until = now + FENCED_FOR
        suspects[token] = now + FENCED_FOR

    def settle(self, token: str) -> None:
        """Take note that a commit or touch of a key is stored, so that nothing which was sent before it can be."""
        self.sending.discard(token)
        if self._suspects:
            self._suspects.pop(token, None)

    @property
    def settled(self) -> bool:
        """Whether the outcome of every commit of this ownership is known."""
        return not self.sending and not self._has_suspects()

    def unsettled(self, tokens: set[str]) -> set[str]:
        """Return those of some keys with a commit of this ownership whose outcome is not known."""
        now = clocks.elapsed()
        return {token for token in tokens if token in self.sending or self._suspects.get(token, now) > now}

    def settled_but(self, tokens: set[str]) -> bool:
        """Return whether the outcome of every commit of this ownership is known, those of some keys excepted."""
        now = clocks.elapsed()
        suspects = {token for token, until in self._suspects.items() if until > now}
        return now >= self._all_until and not ((self.sending | suspects) - tokens)

    @property
    def raised(self) -> bool:
        """Whether a record may be stored that this owner does not know of."""
        return clocks.elapsed() < self._until or self._has_suspects()

    def _has_suspects(self) -> bool:
        now = clocks.elapsed()
        return now < self._all_until or (bool(self._suspects) and next(reversed(self._suspects.values())) > now)
