"""Lanes that are held back: by a message that waits for another attempt, or by one that takes long (ADR 004).

What waits in them is set aside, so that it takes no room from other keys.
"""

import asyncio
from collections.abc import Callable, Iterable

from runtime.turns.key import Key
from runtime.turns.work import Work


class Held:
    """The lanes of one actor whose message is tried again later: `again` is then called with it."""

    def __init__(self, again: Callable[[Work], None]) -> None:
        self._again = again
        self._timers: dict[Key[Work], tuple[asyncio.TimerHandle, Work]] = {}
        self._first: dict[Key[Work], int] = {}
        """The first message that waited in each lane when room was last found to be scarce."""

    def hold(self, entry: Key[Work], work: Work, delay: float) -> None:
        """Keep the lane until `work` is tried again: what came after it on this key waits, other keys do not."""
        entry.behind = max(entry.behind, work.order)
        work.park()
        _park(entry)

        def again() -> None:
            del self._timers[entry]
            self._again(work)

        self._timers[entry] = (asyncio.get_running_loop().call_later(delay, again), work)

    def hold_slow(self, keys: Iterable[Key[Work]]) -> None:
        """Hold back the lanes of `keys` in which nothing has moved since the last call; called while room is scarce."""
        first = {entry: entry.waiting[0].order for entry in keys if entry.waiting}
        for entry, order in first.items():
            if self._first.get(entry) == order:
                _park(entry)
        self._first = first

    def end(self) -> list[tuple[Key[Work], Work]]:
        """Return what waits for another attempt here; it is not tried again."""
        held = [(entry, work) for entry, (_, work) in self._timers.items()]
        for timer, _ in self._timers.values():
            timer.cancel()
        self._timers.clear()
        return held


def _park(entry: Key[Work]) -> None:
    for waiting in entry.waiting or ():
        if waiting.park():
            entry.behind = waiting.order
