"""Pauses between the attempts of a failing operation."""

import random

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """Pauses that double with each failure in a row. Jitter keeps many processes from trying again at the same time."""

    first: float
    """Seconds of the pause after the first failure."""
    longest: float
    """Seconds to which the pause grows."""

    def nominal(self, failures: int) -> float:
        """Return the pause after a number of failures in a row (1 for the first), in seconds and without jitter."""
        return min(self.first * 2.0 ** min(failures - 1, 60), self.longest)

    def delay(self, failures: int) -> float:
        """Return a random pause between half and all of the nominal one, in seconds."""
        return self.nominal(failures) * (0.5 + random.random() / 2)
