"""The rules of a take-over: when a lease is free, and what the new holder has to expect of the former one (ADR 017)."""

import logging
from typing import Final

import msgspec

from runtime import clocks
from runtime.nats.jetstream.responses import StoredMessage
from runtime.nats.lease_value import Finishing, Kind, fault, kind_of, left_in, lifetime, released_by
from runtime.wire.server_clock import ServerClock

logger = logging.getLogger("actorloom.nats")

UNCLEAN_FOR: Final = 600.0
"""Seconds for which holders remember a take-over that was not clean. A write of the former owner arrives before that."""


class TakeOver(msgspec.Struct, frozen=True):
    """How a lease came to a holder."""

    clean: bool
    """Whether the former holder had no write under way, or there never was one."""
    unclean_at: float
    """The time of the last take-over that was not clean, this one included, in Unix seconds of the server; 0.0 if that is long ago."""
    left: Finishing | None = None
    """What a former holder still finishes."""


class Candidate:
    """A process that waits for a lease: what it has seen, and whether it may take the lease.

    The age of what it sees counts from its first look, by its own clock, because the clocks of two machines may differ.

    Args:
        key: The key of the lease.
        ttl: The lifetime of a value, in seconds, for a former holder whose value was never seen.
        clock: The clock of the server, in whose time are the dates that holders leave for each other.
    """

    def __init__(self, key: str, ttl: float, clock: ServerClock) -> None:
        self._key = key
        self._clock = clock
        self._ttl = ttl
        self.has_seen = False
        """Whether the key was ever seen, with a message or without one although it was used."""
        self._sequence = -1
        """The sequence of the message that was seen last; 0 if the key was absent; -1 if the next look is the first one."""
        self._since = 0.0
        self._left: Finishing | None = None
        """What a former holder still finishes, as the last value or release that was seen says."""
        self._lifetime = ttl
        """The lifetime of its value."""
        self.wait = 0.0
        """Seconds after which the lease may be free, unless something changes."""

    def look_anew(self) -> None:
        """Count the age from the next look: the key may have changed since the last one.

        An absent key looks the same again if somebody has taken the lease and it was deleted once more.
        """
        self._sequence = -1

    def judge(self, last: StoredMessage | None, used: bool) -> TakeOver | None:
        """Return how the lease may be taken now, or None if it has to wait.

        Args:
            last: The newest message of the key.
            used: Whether anybody has ever held the lease. It counts only if `last` is None.
        """
        kind = kind_of(last)
        if last is None and not used:
            return TakeOver(clean=True, unclean_at=0.0)
        if last is not None and kind is Kind.RELEASED and (released := released_by(last)) is not None:
            now = self._clock.now()
            unclean_at = recent(released.unclean_at, now) if released.settled else now
            # If another process is faster, and ends before its value is seen, this is all that tells it.
            self._left = released.left.read() if released.left is not None else None
            return TakeOver(clean=released.settled, unclean_at=unclean_at, left=self._left)
        if kind is Kind.EXPIRED:
            return self._unclean()
        if last is not None and kind is Kind.VALUE:
            self._see_value(last)
        if not self._is_over(0 if last is None else last.sequence):
            return None
        if last is None or kind is not Kind.VALUE:
            why = "it was neither released nor did it expire: somebody deleted it"
        else:
            why = f"its value {fault(last) or 'expired'} and was not renewed"
        logger.warning("lease %s: taken over after %g s: %s", self._key, self._lifetime, why)
        return self._unclean()

    def _see_value(self, last: StoredMessage) -> None:
        if last.sequence != self._sequence:
            left = left_in(last)
            self._left = left.read() if left is not None else None
        self._lifetime = lifetime(last) or self._ttl

    def _is_over(self, sequence: int) -> bool:
        """Return whether the same message, or its absence, was seen for the lifetime of a value."""
        now, self.has_seen = clocks.elapsed(), True
        if sequence != self._sequence:
            self._sequence, self._since = sequence, now
        self.wait = self._since + self._lifetime - now
        return self.wait <= 0

    def _unclean(self) -> TakeOver:
        return TakeOver(clean=False, unclean_at=self._clock.now(), left=self._left)


def recent(unclean_at: float, now: float) -> float:
    """Return the time of an unclean take-over, 0.0 if it was long ago, and now if another clock puts it into the future."""
    return min(unclean_at, now) if now - unclean_at < UNCLEAN_FOR else 0.0
