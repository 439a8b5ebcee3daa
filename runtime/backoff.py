"""Pauses between the attempts of a failing operation."""

import random
from collections.abc import Iterator

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """A sequence of pauses that double with each failure in a row, up to a limit.

    A backoff has no state: the caller counts its failures.

    Example:
        backoff = Backoff(first=0.05, longest=2.0)
        await asyncio.sleep(backoff.delay(failures))
    """

    first: float
    """The nominal pause after the first failure, in seconds."""
    longest: float
    """The upper limit of the nominal pause, in seconds."""

    def nominal(self, failures: int) -> float:
        """Return the nominal pause after a failure, in seconds.

        Args:
            failures: The failures in a row, the last one included; 1 after the first.
        """
        return min(self.first * 2.0 ** min(failures - 1, 60), self.longest)

    def delay(self, failures: int) -> float:
        """Return a random pause between half and all of the nominal one, in seconds.

        The jitter spreads the next attempts of callers that failed at the same moment, for example because a server
        restarted.

        Args:
            failures: The failures in a row, the last one included; 1 after the first.
        """
        return self.nominal(failures) * (0.5 + random.random() / 2)

    def pauses(self, total: float) -> Iterator[float]:
        """Return the pauses of an operation that is repeated until it has paused for `total` seconds, the last one shortened.

        Only the pauses count. So a process that was stopped for a moment, or has a slow machine, makes as many attempts as
        another one, and what it waits for has as much time to happen.
        """
        failures, left = 1, total
        while left > 0:
            pause = min(self.delay(failures), left)
            yield pause
            failures, left = failures + 1, left - pause
