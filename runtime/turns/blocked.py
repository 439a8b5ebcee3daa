"""Blocked keys: lanes whose head waits for another attempt, or runs for a long time (ADR 004).

The messages behind the head are parked: they stay in memory in their order, and take no room from other keys.
"""

import asyncio
from collections.abc import Callable, Iterable

from runtime.turns.key import Key
from runtime.turns.work import Work


class BlockedKeys:
    """The blocked lanes of one actor. `retry` is called with a message whose delay is over."""

    def __init__(self, retry: Callable[[Work], None]) -> None:
        self._retry = retry
        self._timers: dict[Key[Work], tuple[asyncio.TimerHandle, Work]] = {}
        self._heads: dict[Key[Work], int] = {}
        """Order of the first waiting message of each lane at the last call of `park_slow`."""
        self._held: dict[Key[Work], Work] = {}

    def __len__(self) -> int:
        """Return how many lanes wait for another attempt at their first message."""
        return len(self._timers) + len(self._held)

    def block(self, key: Key[Work], work: Work, delay: float) -> None:
        """Block the lane of `key` until `work` is tried again, `delay` seconds from now. Other keys go on."""
        key.block(work.order)
        work.park()
        _park_waiting(key)

        def retry() -> None:
            del self._timers[key]
            self._retry(work)

        self._timers[key] = (asyncio.get_running_loop().call_later(delay, retry), work)

    def hurry(self, key: Key[Work], work: Work) -> None:
        """Try `work` again now, if it waits for that."""
        timer, waiting = self._timers.get(key, (None, None))
        if timer is not None and waiting is work:
            timer.cancel()
            del self._timers[key]
            self._retry(work)

    def hold(self, key: Key[Work], work: Work) -> None:
        """Block the lane of `key` until `resume` is called for `work`."""
        key.block(work.order)
        work.park()
        _park_waiting(key)
        self._held[key] = work

    def resume(self, key: Key[Work], work: Work) -> None:
        """Try `work` again, if `hold` has blocked the lane of `key` for it."""
        if self._held.get(key) is work:
            del self._held[key]
            self._retry(work)

    def park_slow(self, keys: Iterable[Key[Work]]) -> None:
        """Park the messages of each lane in `keys` whose head has not changed since the last call.

        The puller calls this while its room is scarce: a handler that takes long must not stop other keys.
        """
        heads = {key: key.waiting[0].order for key in keys if key.waiting}
        for key, order in heads.items():
            if self._heads.get(key) == order:
                _park_waiting(key)
        self._heads = heads

    def end(self) -> list[tuple[Key[Work], Work]]:
        """Cancel all retries, and return the messages that waited for one, and those that are held."""
        blocked = [*((key, work) for key, (_, work) in self._timers.items()), *self._held.items()]
        self._held.clear()
        for timer, _ in self._timers.values():
            timer.cancel()
        self._timers.clear()
        return blocked


def _park_waiting(key: Key[Work]) -> None:
    for waiting in key.waiting or ():
        if waiting.park():
            key.blocked_until = waiting.order
