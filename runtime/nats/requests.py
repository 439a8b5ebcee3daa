"""Requests in flight: reply subjects out, replies in, deadlines in one table swept by one timer."""

import asyncio
from collections.abc import Callable
from secrets import token_hex
from typing import NamedTuple

from runtime.errors import PublishError
from runtime.nats.errors import NoResponders
from runtime.nats.receive import report

# More than this in flight is a caller without back-pressure, not load.
MAX_IN_FLIGHT = 262_144

# Sweeps are at least this far apart (seconds): a late timeout costs nothing, a sweep per request would.
MIN_SWEEP = 0.005

_NEVER = float("inf")
_new = tuple.__new__  # half the cost of a NamedTuple's own constructor


class Response(NamedTuple):
    """A reply: its header block (None without headers) and its payload."""

    headers: bytes | None
    payload: bytes


class Waiter:
    """Tells a function of a reply, in place of a future that wakes a task: ``told(response, None)``, or ``told(None, error)``.

    It is called from the read loop, without the two trips through the event loop that a future's callback takes.
    """

    __slots__ = ("_done", "_told")

    def __init__(self, told: Callable[[Response | None, Exception | None], None]) -> None:
        self._told = told
        self._done = False

    def done(self) -> bool:
        """Whether it has been told."""
        return self._done

    def set_result(self, response: Response) -> None:
        """The reply came."""
        self._tell(response, None)

    def set_exception(self, error: Exception) -> None:
        """It will not come."""
        self._tell(None, error)

    def _tell(self, response: Response | None, error: Exception | None) -> None:
        self._done = True
        try:
            self._told(response, error)
        except Exception as raised:  # noqa: BLE001 - whoever is told must not keep others from being told
            report(b"a reply", raised)


class ReplyTable:
    """The replies that one connection waits for, under one wildcard inbox.

    A request costs one future and one dictionary entry. Its deadline needs no timer of its own: the sweep runs at the
    earliest deadline in the table, so with equal time-outs about once in that time-out, however many requests there are.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, inbox_prefix: str) -> None:
        self._loop = loop
        self._prefix = f"{inbox_prefix}.{token_hex(11)}.".encode()
        self._waiting: dict[bytes, tuple[asyncio.Future[Response] | Waiter, float, bytes]] = {}
        self._counter = 0
        self._due = _NEVER
        self._timer: asyncio.TimerHandle | None = None

    @property
    def subject(self) -> str:
        """The wildcard subject to subscribe `receive` to."""
        return self._prefix.decode() + "*"

    def __len__(self) -> int:
        return len(self._waiting)

    def is_own(self, reply: bytes) -> bool:
        """Whether a reply subject is one of this table."""
        return reply.startswith(self._prefix)

    def expect(self, subject: bytes, expires_at: float) -> tuple[bytes, asyncio.Future[Response]]:
        """Return a new reply subject and the future of its reply; `expires_at` is in the loop's time.

        The future ends with a `Response`, or with `NoResponders`, `TimeoutError` or what `fail` was given. Raises
        `PublishError` where too many requests are in flight.
        """
        waiting = self._waiting
        if len(waiting) >= MAX_IN_FLIGHT:
            raise PublishError(f"{MAX_IN_FLIGHT} requests are in flight: {subject.decode()} was not sent")
        self._counter = counter = self._counter + 1
        reply = b"%b%x" % (self._prefix, counter)
        future: asyncio.Future[Response] = asyncio.Future(loop=self._loop)  # create_future() costs half as much again
        waiting[reply] = (future, expires_at, subject)
        if expires_at < self._due:
            self._arm(expires_at)
        return reply, future

    def tell(self, subject: bytes, expires_at: float, waiter: Waiter) -> bytes:
        """Return a new reply subject; `waiter` is told of its reply as the future of `expect` would be. Raises as that."""
        if len(self._waiting) >= MAX_IN_FLIGHT:
            raise PublishError(f"{MAX_IN_FLIGHT} requests are in flight: {subject.decode()} was not sent")
        self._counter += 1
        reply = b"%b%x" % (self._prefix, self._counter)
        self._waiting[reply] = (waiter, expires_at, subject)
        if expires_at < self._due:
            self._arm(expires_at)
        return reply

    def forget(self, reply: bytes) -> None:
        """Take back what `expect` gave out: the request could not be sent."""
        self._waiting.pop(reply, None)

    def receive(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        """Hand a reply to its future; replies that nobody waits for any more are dropped."""
        entry = self._waiting.pop(subject, None)
        if entry is None:
            return
        future = entry[0]
        if future.done():
            return
        if headers is not None and not payload and headers.startswith(b"NATS/1.0 503"):
            future.set_exception(NoResponders(f"nobody serves {entry[2].decode()}"))
        else:
            future.set_result(_new(Response, (headers, payload)))

    def fail(self, error: Exception, subject: str | None = None) -> None:
        """Fail all that wait, or those of one request subject (compared without case: nats-py lowers it)."""
        for reply, (future, _, requested) in list(self._waiting.items()):
            if subject is None or requested.decode().lower() == subject.lower():
                del self._waiting[reply]
                if not future.done():
                    future.set_exception(error)

    def close(self, error: Exception) -> None:
        """Fail all that wait and stop the timer."""
        self.fail(error)
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due = None, _NEVER

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = at
        self._timer = self._loop.call_at(max(at, self._loop.time() + MIN_SWEEP), self._sweep)

    def _sweep(self) -> None:
        now = self._loop.time()
        self._timer, self._due = None, _NEVER
        earliest = _NEVER
        overdue: list[bytes] = []
        for reply, (future, expires_at, _) in self._waiting.items():
            if expires_at <= now or future.done():
                overdue.append(reply)
            elif expires_at < earliest:
                earliest = expires_at
        for reply in overdue:
            future, _, subject = self._waiting.pop(reply)
            if not future.done():
                future.set_exception(TimeoutError(f"no reply to {subject.decode()} in time"))
        if earliest < _NEVER:
            self._arm(earliest)
