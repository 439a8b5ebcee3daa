"""The log of the partitions that a process owns: one line whenever they have changed and settled."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from runtime.host.owner import Owner, Phase

logger = logging.getLogger("actorloom.host")

_QUIET: Final = 0.5
"""Seconds without a change after which the partitions of this process are logged, although it waits for others."""


class OwnedLog:
    """Logs which partitions of an actor this process owns, from the first that it owns to `close`.

    Args:
        name: The name of the actor.
        owners: The owners of all its partitions.
        first: Called before the first line.
    """

    def __init__(self, name: str, owners: Sequence[Owner], first: Callable[[], object]) -> None:
        self._name = name
        self._owners = owners
        self._first = first
        self._logged: list[int] | None = None
        """The partitions that the last line names; None before the first line."""
        self._timer: asyncio.TimerHandle | None = None

    def note_change(self) -> None:
        """Log soon: at once if this process has all partitions that it wants, or else if none comes or goes for a moment."""
        self.close()
        settled = all(owner.ready if owner.wanted else owner.phase is not Phase.DRAINING for owner in self._owners)
        self._timer = asyncio.get_running_loop().call_later(0.0 if settled else _QUIET, self._log)

    def close(self) -> None:
        """Log no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _log(self) -> None:
        owned, total = [owner.partition.number for owner in self._owners if owner.ready], len(self._owners)
        if owned == (self._logged or []):
            return
        if self._logged is None:
            self._first()
        numbers = "no partition" if not owned else f"partition{'s' * (len(owned) > 1)} {', '.join(map(str, owned))}"
        logger.info("%s: owns %s of %d", self._name, numbers, total)
        self._logged = owned
