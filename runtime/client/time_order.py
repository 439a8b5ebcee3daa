"""The order of stored events from several streams: by the times at which the server has stored them."""

import asyncio
from collections.abc import Callable
from typing import Final

_TICK: Final = 0.02
"""Seconds between two looks for streams that have no more stored events."""
_PATIENCE: Final = 100
"""Looks in a row at which a stream has shown no event, after which the others go on without it: two seconds."""


class TimeOrder:
    """Lets the readers of several streams hand over their stored events in the order of the times of these.

    A reader that has an event waits until each other stream has a later one, or has none any more. After that the stream is not
    waited for again: its new events come as they arrive.

    Args:
        has_ended: Returns whether the reader of a stream has taken all events that were stored.
    """

    def __init__(self, has_ended: Callable[[str], bool]) -> None:
        self._has_ended = has_ended
        self._looks: dict[str, int] = {}
        """The streams whose stored events are not all handed over, with the looks since their last event."""
        self._waiting: dict[str, tuple[float, asyncio.Future[None]]] = {}
        """By stream: the time of the event that waits to be handed over."""
        self._busy: set[str] = set()
        """The streams whose event is handed over now."""

    def add(self, stream: str) -> None:
        """Wait for the events of a stream from now on."""
        self._looks[stream] = 0

    def end(self, stream: str) -> None:
        """Wait no more for the events of a stream."""
        self._waiting.pop(stream, None)
        self._busy.discard(stream)
        if self._looks.pop(stream, None) is not None:
            self._next()

    async def wait(self, stream: str, time: float) -> None:
        """Wait until no other stream may have an earlier event. The caller hands the event over, and calls `done`."""
        if stream not in self._looks:
            return
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[stream] = time, ready
        self._looks[stream] = 0
        self._next()
        await ready

    def done(self, stream: str) -> None:
        """Note that the event of a stream is handed over."""
        self._busy.discard(stream)

    async def run(self) -> None:
        """Find the streams that have no more stored events. Returns when there are none left to wait for."""
        while self._looks:
            await asyncio.sleep(_TICK)
            for stream in self._looks.keys() - self._waiting.keys() - self._busy:
                self._looks[stream] += 1
                if self._has_ended(stream) or self._looks[stream] > _PATIENCE:
                    self.end(stream)

    def _next(self) -> None:
        """Let the earliest event be handed over, if each stream has one that waits."""
        if self._waiting and self._looks.keys() <= self._waiting.keys():
            earliest = min(self._waiting, key=lambda stream: (self._waiting[stream][0], stream))
            _, ready = self._waiting.pop(earliest)
            self._busy.add(earliest)
            if not ready.done():
                ready.set_result(None)
