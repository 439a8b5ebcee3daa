"""One at a time: the events that may have ended a process, of all consumers of this process, in turn (ADR 012).

An event is to blame for a death only if no other one that may have caused it ran. So the suspects of all consumers in a
process share one `OneAtATime`. A process has one event loop, so there is one of them for each loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary

_RUN_TIMEOUT = 5.0
"""Seconds that a suspect may run before the next one runs beside it."""
_READ_TIMEOUT = 5.0
"""Seconds for which no suspect runs while others are still to be read. See `OneAtATime.expect`."""

_in_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, "OneAtATime"] = WeakKeyDictionary()


def one_at_a_time() -> "OneAtATime":
    """Return the turns of the suspects in this process."""
    return _in_loop.setdefault(asyncio.get_running_loop(), OneAtATime())


class OneAtATime:
    """Gives each event its turn, in the order of `enter`. A turn ends when all messages that entered for it have left."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Hashable, object, Callable[[], None]]] = deque()
        self._event: Hashable | None = None
        self._messages: set[object] = set()
        """The messages of the event whose turn it is."""
        self._expected: dict[object, asyncio.TimerHandle] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, event: Hashable, message: object, resume: Callable[[], None]) -> bool:
        """Return whether `message` may run now. If not, `resume` is called when it may; it must then enter again.

        Args:
            event: Identifies the event. Its messages to several handlers share its turn.
            message: Identifies the message.
            resume: Called without arguments when it is the event's turn.
        """
        if self._event is None and not self._expected:
            self._begin(event)
        if event == self._event:
            self._messages.add(message)
            return True
        self._waiting.append((event, message, resume))
        return False

    def leave(self, message: object) -> None:
        """End the turn of a message, or its wait. Nothing happens if it has left."""
        if message in self._messages:
            self._messages.discard(message)
            if not self._messages:
                self._next()
        else:
            self._waiting = deque(each for each in self._waiting if each[1] is not message)

    def expect(self, reader: object) -> None:
        """Let no suspect begin until `reader` has read its own ones, for five seconds at most.

        The types of an event may run code of the application. If that ends the process, no other suspect must run.
        """
        loop = asyncio.get_running_loop()
        self._expected[reader] = loop.call_later(_READ_TIMEOUT, self.read, reader)

    def read(self, reader: object) -> None:
        """`reader` has read its suspects."""
        timer = self._expected.pop(reader, None)
        if timer is not None:
            timer.cancel()
            if self._event is None:
                self._next()

    def _begin(self, event: Hashable) -> None:
        self._event = event
        self._timer = asyncio.get_running_loop().call_later(_RUN_TIMEOUT, self._next)

    def _next(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._event, self._timer = None, None
        self._messages.clear()
        if self._expected or not self._waiting:
            return
        event = self._waiting[0][0]
        self._begin(event)
        due = [each for each in self._waiting if each[0] == event]
        self._waiting = deque(each for each in self._waiting if each[0] != event)
        self._messages.update(message for _, message, _ in due)
        for _, _, resume in due:
            resume()
