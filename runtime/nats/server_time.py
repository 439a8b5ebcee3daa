"""Asks the server for its time, so that the `ServerClock` of a connection stays right.

``$SYS.REQ.USER.INFO`` is answered by the server that the connection is with. Every account imports it, but a user with a list
of permissions needs the right to publish there. A user without it goes by the wall clock of its machine.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

import msgspec

from runtime.clocks import elapsed
from runtime.errors import PublishError
from runtime.nats.errors import PermissionDenied
from runtime.nats.requests import ReplyCallback, Response
from runtime.wire.codec import UNDECODABLE
from runtime.wire.server_clock import TOLERATED, ServerClock

logger = logging.getLogger("actorloom.nats")

SUBJECT: Final = "$SYS.REQ.USER.INFO"

_PATIENCE: Final = 5.0
"""Seconds to wait for an answer. A later one would say little."""
_FIRST: Final = 0.25
"""Seconds by which the question delays the opening of a connection at most."""
_PAUSES: Final = (0.1, 1.0, 10.0)
"""Seconds before the questions after the first one. The first answer of a new connection may be slow."""
_PERIOD: Final = 60.0
"""Seconds between the later questions."""
_FOLLOWING: Final = 1.0
"""Seconds between two looks at the wall clock while the time of the server is unknown."""


class _Server(msgspec.Struct):
    time: datetime


class _Info(msgspec.Struct):
    server: _Server


_decode = msgspec.json.Decoder(_Info).decode


class Asks(Protocol):
    """The part of `Connection` that is used here."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        ...

    def request_callback(
        self, subject: bytes, payload: bytes, headers: bytes | None, expires_at: float, callback: ReplyCallback
    ) -> bytes:
        """Send a request, and call `callback` with its outcome. Return the reply subject."""
        ...


class ServerTime:
    """Keeps the clock of one connection.

    Args:
        connection: The connection.
        clock: The clock.
    """

    def __init__(self, connection: Asks, clock: ServerClock) -> None:
        self.reason = "it was not asked yet"
        """Why the time of the server is unknown; empty if it is known."""
        self.reported = 0.0
        """The skew that was logged last, in seconds; 0.0 while it is tolerated."""
        self._connection = connection
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._asked = 0
        """The number of questions on this connection. A late answer to an earlier connection has another number."""
        self._timer: asyncio.TimerHandle | None = None
        self._following: asyncio.TimerHandle | None = None

    @property
    def fault(self) -> str:
        """What is wrong with the wall clock of this machine, or why that is unknown; empty if nothing is."""
        if self.reason:
            return f"the time of the NATS server is unknown: {self.reason}"
        return f"the wall clock is {_differs(self.reported)} the NATS server" if self.reported else ""

    async def start(self) -> None:
        """Ask, and return when the answer has come, at the latest after a quarter of a second."""
        first: asyncio.Future[None] = self._loop.create_future()
        self._ask(0, lambda: None if first.done() else first.set_result(None))
        await asyncio.wait({first}, timeout=_FIRST)

    def reconnected(self) -> None:
        """Ask again at once: the server may be another one."""
        self._ask(0, lambda: None)

    def stop(self) -> None:
        """Ask no more, and ignore an answer that is on its way."""
        self._asked += 1
        for timer in (self._timer, self._following):
            if timer is not None:
                timer.cancel()

    def _ask(self, count: int, done: Callable[[], None]) -> None:
        """Ask for the `count`-th time since the connection was made, and call `done` when the outcome is known."""
        self._asked += 1
        number, sent = self._asked, elapsed()

        def on_reply(response: Response | None, error: Exception | None) -> None:
            if number == self._asked:
                self._on_reply(sent, response, error)
                self._schedule(count)
                done()

        if not self._connection.is_connected:
            return  # `reconnected` asks again.
        try:
            self._connection.request_callback(
                SUBJECT.encode(), b"", None, self._loop.time() + _PATIENCE, ReplyCallback(on_reply)
            )
        except PublishError as error:
            self._loop.call_soon(on_reply, None, error)

    def _schedule(self, count: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        pause = _PAUSES[count] if count < len(_PAUSES) else _PERIOD
        self._timer = self._loop.call_later(pause, self._ask, count + 1, lambda: None)

    def _on_reply(self, sent: float, response: Response | None, error: Exception | None) -> None:
        received = elapsed()
        if response is None:
            refused = isinstance(error, PermissionDenied)
            self._failed(f"the user may not publish on {SUBJECT}" if refused else str(error) or type(error).__name__)
            return
        try:
            time = _decode(response.payload).server.time.timestamp()
        except UNDECODABLE:
            self._failed("its answer has no time")
            return
        self._clock.add(sent, received, time)
        if self._clock.known:
            self.reason = ""
            self._report()
        else:
            self._failed(f"its answer took {received - sent:.1f} s")

    def _failed(self, reason: str) -> None:
        """Keep a known time, which stays good for hours. Otherwise go by the wall clock, and follow it when it is set."""
        if self._clock.known:
            return
        if self.reason != reason:
            self.reason = reason
            logger.info("%s; deadlines and timers go by the wall clock", self.fault)
        self._follow()

    def _follow(self) -> None:
        if self._clock.known:
            return
        self._clock.follow_wall()
        if self._following is not None:
            self._following.cancel()
        self._following = self._loop.call_later(_FOLLOWING, self._follow)

    def _report(self) -> None:
        """Log the skew if it is not tolerated, and again when it has changed by as much."""
        skew = self._clock.skew if self._clock.skewed else 0.0
        if skew and abs(skew - self.reported) > TOLERATED:
            logger.warning(
                "the wall clock of this machine is %s the NATS server: deadlines and timers go by the server's time, "
                "times in logs and traces do not; synchronize the clocks (NTP)", _differs(skew),
            )  # fmt: skip
            self.reported = skew
        elif not skew and self.reported:
            logger.info("the wall clock of this machine agrees with that of the NATS server again")
            self.reported = 0.0


def _differs(skew: float) -> str:
    return f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'}"
