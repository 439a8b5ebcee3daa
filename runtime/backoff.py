"""Pauses between the attempts of a failing operation."""

import random

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
