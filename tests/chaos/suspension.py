"""The suspension of a machine, for one process: its monotonic clock stands still while it is stopped.

The suite stops the process, and sends SIGUSR1 before SIGCONT (`fleet.suspended`). CLOCK_BOOTTIME goes on, as it does on a
machine that was suspended.
"""

import signal
import time
from types import FrameType


def install() -> None:
    """Replace `time.monotonic` in this process, which asyncio and the runtime read."""
    clock = _Clock()
    signal.signal(signal.SIGUSR1, clock.resumed)
    time.monotonic = clock.monotonic


class _Clock:
    def __init__(self) -> None:
        self._real = time.monotonic
        self._last = self._real()
        self._stopped = 0.0

    def monotonic(self) -> float:
        """Return the time without the suspensions."""
        self._last = self._real()
        return self._last - self._stopped

    def resumed(self, number: int, frame: FrameType | None) -> None:
        """Leave out the time since the clock was last read."""
        now = self._real()
        self._stopped += now - self._last
        self._last = now
