"""Parked deliveries: in hand, but not counted against the limit, so that others are delivered in their place."""

from collections.abc import Callable
from typing import Final

_MAX_BYTES: Final = 64 * 1024 * 1024
"""The upper limit for the bytes of all parked deliveries: the memory that failing keys may take."""


class Parked:
    """The sizes of the parked deliveries.

    Args:
        most: The upper limit for the number of parked deliveries; 64 MiB is the limit for their bytes.
        on_full: Called when a delivery is refused, and then not again until half of the limit is free.
    """

    def __init__(self, most: int, on_full: Callable[[], None]) -> None:
        self._most = most
        self._on_full = on_full
        self._sizes: dict[int, int] = {}
        """The bytes of each delivery, by stream sequence."""
        self._bytes = 0
        self._reported = False

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._sizes

    def add(self, sequence: int, size: int) -> bool:
        """Park a delivery of `size` bytes; return False if a limit is reached."""
        if len(self._sizes) >= self._most or self._bytes + size > _MAX_BYTES:
            if not self._reported:
                self._reported = True
                self._on_full()
            return False
        self._sizes[sequence] = size
        self._bytes += size
        return True

    def remove(self, sequence: int) -> bool:
        """Remove a finished delivery; return whether it was parked."""
        size = self._sizes.pop(sequence, None)
        if size is None:
            return False
        self._bytes -= size
        if len(self._sizes) <= self._most // 2 and self._bytes <= _MAX_BYTES // 2:
            self._reported = False
        return True
