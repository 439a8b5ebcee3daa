"""The clock of leases: it goes on while the machine is suspended."""

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
