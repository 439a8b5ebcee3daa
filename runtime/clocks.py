"""Time: the clock of leases, which goes on while the machine is suspended, and durations, which are numbers of seconds."""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""On Linux, CLOCK_MONOTONIC stops while the machine is suspended. On macOS, which has no CLOCK_BOOTTIME, it does not."""

elapsed: Callable[[], float] = partial(time.clock_gettime, _CLOCK)
"""Return the seconds since some point in the past, the time in which the machine was suspended included.

Call it as ``clocks.elapsed()``: tests replace it to simulate a suspended machine. The time of asyncio's event loop is another
clock, so only differences can be passed to asyncio.
"""

YEAR: Final = 31_536_000.0
"""Seconds of a year: the longest duration, unless its place says otherwise."""


def is_duration(value: object, shortest: float = 0.0, longest: float = YEAR) -> bool:
    """Return whether `value` is an integer or a float from `shortest` to `longest`.

    NaN, the infinities, booleans, and numbers of other types (`Decimal`, texts) are none: arithmetic with them fails later,
    or means something else.
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and shortest <= value <= longest
