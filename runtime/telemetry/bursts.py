"""Bursts of like log lines, such as that of each request which an overloaded actor refuses: one line with a count.

A line waits until no other of its kind has come for a moment, a second at most. So a single one is logged almost at once, and
a flood of any length has one line a second.
"""

import asyncio
import logging
from typing import Final

import msgspec

_QUIET: Final = 0.05
"""Seconds without another line after which a burst has ended."""
_LONGEST: Final = 1.0
"""Seconds after which the lines of a burst so far are logged."""
_MOST: Final = 256
"""Kinds of lines that wait at once. A further one is logged by itself."""


class _Burst(msgspec.Struct, eq=False):
    """The lines of one kind that wait."""

    logger: logging.Logger
    level: int
    about: str
    text: str
    """The text of the first one."""
    what: str
    count: int
    first: float
    """Loop time of the first one."""
    last: float


class Bursts:
    """Joins like log lines. Belongs to one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[tuple[str, str, str], _Burst] = {}
        self._timer: asyncio.TimerHandle | None = None

    def log(self, logger: logging.Logger, level: int, about: str, kind: str, text: str, what: str) -> None:
        """Log ``<about>: <text>``; several lines as ``<about>: <count> <what> (<kind>), the first: <text>``.

        Args:
            logger: The logger.
            level: The level.
            about: The actor or subject.
            kind: The kind of the lines, such as the class of an error. Lines of one kind are joined.
            text: The text of this line. If it begins with ``<about>: ``, as errors do that name their subject, it is not doubled.
            what: The things that are counted: "requests were refused".
        """
        now = self._loop.time()
        found = self._waiting.get((about, kind, what))
        if found is not None:
            found.count += 1
            found.last = now
            return
        burst = _Burst(logger, level, about, text.removeprefix(f"{about}: "), what, 1, now, now)
        if len(self._waiting) >= _MOST:
            _write(burst, kind)
            return
        self._waiting[about, kind, what] = burst
        if self._timer is None:
            self._timer = self._loop.call_later(_QUIET, self._look)

    def flush(self) -> None:
        """Log all lines that wait."""
        for (_, kind, _), burst in self._waiting.items():
            _write(burst, kind)
        self._waiting.clear()

    def _look(self) -> None:
        """Log the bursts that have ended, or have lasted for long."""
        self._timer = None
        now = self._loop.time()
        for key, burst in list(self._waiting.items()):
            if now - burst.last >= _QUIET or now - burst.first >= _LONGEST:
                del self._waiting[key]
                _write(burst, key[1])
        if self._waiting:
            self._timer = self._loop.call_later(_QUIET, self._look)


def _write(burst: _Burst, kind: str) -> None:
    if burst.count == 1:
        burst.logger.log(burst.level, "%s: %s", burst.about, burst.text)
    else:
        burst.logger.log(
            burst.level, "%s: %d %s (%s), the first: %s", burst.about, burst.count, burst.what, kind, burst.text
        )
