"""Requests in flight: reply subjects, the futures or callbacks of their replies, and their deadlines."""

import asyncio
from collections.abc import Callable, Iterator
from secrets import token_hex
from typing import Any

import msgspec

from runtime.errors import PublishError
from runtime.nats.errors import NoResponders
from runtime.nats.receive import log_exception

MAX_IN_FLIGHT = 262_144
"""The upper limit for requests in flight: a caller with more of them has no back pressure."""

MIN_SWEEP = 0.005
"""The least number of seconds between two sweeps. A late timeout costs nothing, a sweep per request would."""

_NEVER = float("inf")


class Response(msgspec.Struct, gc=False):
    """A reply: its header block (None if it has no headers) and its payload. It unpacks into the two.

    A struct is created for a quarter of the cost of a tuple with names.
    """

    headers: bytes | None
    payload: bytes

    def __iter__(self) -> Iterator[bytes | None]:
        return iter((self.headers, self.payload))


class ReplyCallback:
    """Calls a function with a reply, in place of a future that wakes a task.

    The function is called from the read loop, without the two trips through the event loop that the callback of a future
    takes. It is called once, with ``(response, None)`` or ``(None, error)``. The methods are those of a future. A subclass may
    call it with something else that it makes of the reply.
    """

    __slots__ = ("_callback", "_done")

    def __init__(self, callback: Callable[[Any, Exception | None], None]) -> None:
        self._callback = callback
        self._done = False

    def done(self) -> bool:
        """Return whether the function was called."""
        return self._done

    def set_result(self, response: Response) -> None:
        """Call the function with the reply."""
        self.call(response, None)

    def set_exception(self, error: Exception) -> None:
        """Call the function with an error."""
        self.call(None, error)

    def call(self, result: Any, error: Exception | None) -> None:
        """Call the function."""
        self._done = True
        try:
            self._callback(result, error)
        except BaseException as raised:  # noqa: BLE001 - a failing callback must not keep others from being called
            log_exception(b"a reply", raised)


class ReplyTable:
    """The replies that one connection waits for, under one wildcard inbox.

    A request costs one future and one dictionary entry. It needs no timer of its own: one sweep runs at the earliest
    deadline in the table. With equal timeouts that is about once per timeout, for any number of requests.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, inbox_prefix: str) -> None:
        self._loop = loop
        self._prefix = f"{inbox_prefix}.{token_hex(11)}.".encode()
        self._waiting: dict[bytes, tuple[asyncio.Future[Response] | ReplyCallback, float, bytes]] = {}
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
        """Return whether `reply` is a reply subject of this table."""
        return reply.startswith(self._prefix)

    def expect(self, subject: bytes, expires_at: float) -> tuple[bytes, asyncio.Future[Response]]:
        """Return a new reply subject and the future of its reply.

        The future ends with a `Response`, `NoResponders`, `TimeoutError`, or the error that `fail` is called with.

        Args:
            subject: The subject of the request; used in error texts, and to find the requests that the server refused.
            expires_at: The deadline, in the loop's time.

        Raises:
            PublishError: Too many requests are in flight.
        """
        # Of the running loop. A loop as an argument, or its create_future(), costs half as much again.
        future: asyncio.Future[Response] = asyncio.Future()
        return self.register(subject, expires_at, future), future

    def forget(self, reply: bytes) -> None:
        """Remove a reply subject: its request was not sent, or nobody waits for the reply any more."""
        self._waiting.pop(reply, None)

    def receive(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        """Complete the future or callback of a reply. A reply that is no longer expected is dropped."""
        entry = self._waiting.pop(subject, None)
        if entry is None:
            return
        future = entry[0]
        if future.done():
            return
        if headers is not None and not payload and headers.startswith(b"NATS/1.0 503"):
            future.set_exception(NoResponders(f"no process serves {entry[2].decode()}"))
        else:
            future.set_result(Response(headers, payload))

    def fail(self, error: Exception, subject: str | None = None) -> None:
        """Fail all requests, or only those to `subject` (any case, because nats-py lowers it)."""
        for reply, (future, _, requested) in list(self._waiting.items()):
            if subject is None or requested.decode().lower() == subject.lower():
                del self._waiting[reply]
                if not future.done():
                    future.set_exception(error)

    def close(self, error: Exception) -> None:
        """Fail all requests and stop the timer."""
        self.fail(error)
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due = None, _NEVER

    def register(self, subject: bytes, expires_at: float, future: "asyncio.Future[Response] | ReplyCallback") -> bytes:
        """Return a new reply subject. `future` gets the reply or the error. Arguments and errors are those of `expect`."""
        waiting = self._waiting
        if len(waiting) >= MAX_IN_FLIGHT:
            raise PublishError(f"{MAX_IN_FLIGHT} requests are in flight: {subject.decode()} was not sent")
        self._counter = counter = self._counter + 1
        reply = b"%b%x" % (self._prefix, counter)
        waiting[reply] = (future, expires_at, subject)
        if expires_at < self._due:
            self._arm(expires_at)
        return reply

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
