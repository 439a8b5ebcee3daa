"""The clock of the NATS server, as one connection knows it.

Deadlines and timers pass between machines as dates, and the clocks of machines differ. So all dates on the wire are in the time
of the server. `ServerClock` holds the offset of that time to `elapsed`, which no adjustment of the wall clock moves and no
suspension stops. One addition converts a date.
"""

import time

from runtime.clocks import elapsed

TOLERATED = 1.0
"""Seconds by which a wall clock may differ from that of the server before the difference is reported."""

_DRIFT = 5e-4
"""Seconds by which two clocks part in a second at most: the rate at which NTP slews a clock."""


class ServerClock:
    """The time of one NATS server. Until the server has told its time, it is that of the wall clock of this machine."""

    __slots__ = ("_bound", "_taken", "ahead", "known", "offset", "skew")

    def __init__(self) -> None:
        self.offset = 0.0
        """Unix seconds of the server less `elapsed()`."""
        self.known = False
        """Whether the server has told its time."""
        self.skew = 0.0
        """Seconds by which the wall clock of this machine was ahead of the server at the last sample; 0.0 if unknown."""
        self.ahead = 0.0
        """Seconds by which the time that handlers see is ahead of the server's: the test kit moves it. It is no part of `now`."""
        self.follow_wall()

    def now(self) -> float:
        """Return the time of the server, in Unix seconds."""
        return elapsed() + self.offset

    @property
    def bound(self) -> float | None:
        """Seconds by which `now` may be wrong: half of a round trip, and the drift since; None if the time is unknown."""
        return self._bound + (elapsed() - self._taken) * _DRIFT if self.known else None

    @property
    def skewed(self) -> bool:
        """Whether the wall clock of this machine certainly differs from that of the server by more than `TOLERATED`."""
        return self.known and abs(self.skew) - self._bound > TOLERATED

    def follow_wall(self) -> None:
        """Go by the wall clock of this machine, which may have been set: the time of the server is unknown."""
        self._taken = elapsed()
        self._bound = TOLERATED
        self.offset, self.known, self.skew = time.time() - self._taken, False, 0.0

    def add(self, sent: float, received: float, server: float) -> bool:
        """Take a sample of the server's time, unless a better one is known.

        An answer is late by an unknown part of the round trip, so it is wrong by half of that at most. The sample with the
        smaller bound is the better one. A sample that contradicts the one before replaces it whatever its bound: a clock
        was set, or another server has answered. The wall clock counts as a sample with the bound `TOLERATED`.

        Args:
            sent: The time of the question, by `elapsed`.
            received: The time of the answer, by `elapsed`.
            server: The time in the answer, in Unix seconds.

        Returns:
            Whether the sample was taken.
        """
        offset, bound = server - (sent + received) / 2, (received - sent) / 2
        aged = self._bound + (received - self._taken) * (_DRIFT if self.known else 0.0)
        if bound > aged and abs(offset - self.offset) <= bound + aged:
            return False
        self.offset, self._bound, self._taken, self.known = offset, bound, received, True
        self.skew = time.time() - (elapsed() + offset)
        return True
