"""Deliveries that are set aside: in hand, but so that others are delivered in their place."""

from collections.abc import Callable
from typing import Final

# Bytes that all of them may have: what keys that fail may cost in memory.
_BYTES: Final = 64 * 1024 * 1024


class Parked:
    """At most `most` deliveries, and 64 MiB of them. `on_full` is told when one more was refused, and not again before half
    of them are gone."""

    def __init__(self, most: int, on_full: Callable[[], None]) -> None:
        self.sizes: dict[int, int] = {}
        """Their bytes, by stream sequence."""
        self._most = most
        self._on_full = on_full
        self._bytes = 0
        self._told = False

    def add(self, sequence: int, size: int) -> bool:
        """Set one aside; return whether that was possible."""
        if len(self.sizes) >= self._most or self._bytes + size > _BYTES:
            if not self._told:
                self._told = True
                self._on_full()
            return False
        self.sizes[sequence] = size
        self._bytes += size
        return True

    def remove(self, sequence: int) -> bool:
        """Forget one that is finished; return whether it was set aside."""
        size = self.sizes.pop(sequence, None)
        if size is None:
            return False
        self._bytes -= size
        if len(self.sizes) <= self._most // 2 and self._bytes <= _BYTES // 2:
            self._told = False
        return True
