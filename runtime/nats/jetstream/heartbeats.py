"""A watch over the heartbeats of a server, which finds out that it has fallen silent."""

import asyncio
from collections.abc import Callable
from typing import Final

_MISSED: Final = 3
"""Missing heartbeats in a row after which the server counts as silent."""


class Heartbeats:
    """Checks every `period` seconds whether the server has sent anything.

    Args:
        period: Seconds between two heartbeats of the server.
        on_check: Called first at each check; returns whether the server owes a heartbeat.
        on_heard: Called at each check if the server has sent anything since the last one.
        on_silent: Called at a check if the server has sent nothing, and has owed a heartbeat, for three checks or more.
    """

    def __init__(
        self,
        period: float,
        on_check: Callable[[], bool],
        on_heard: Callable[[], None],
        on_silent: Callable[[], None],
    ) -> None:
        self.heard = False
        """Set by the owner for anything that the server sends."""
        self._period = period
        self._on_check = on_check
        self._on_heard = on_heard
        self._on_silent = on_silent
        self._missed = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the checks."""
        self._timer = asyncio.get_running_loop().call_later(self._period, self._check)

    def stop(self) -> None:
        """Stop the checks."""
        if self._timer is not None:
            self._timer.cancel()

    def reset(self) -> None:
        """Count the missing heartbeats from zero."""
        self._missed = 0

    def _check(self) -> None:
        self.start()
        owed = self._on_check()
        if self.heard:
            self.heard = False
            self._missed = 0
            self._on_heard()
        elif owed:
            self._missed += 1
            if self._missed >= _MISSED:
                self._on_silent()
