"""The messages of the limiter."""

from msgspec import Struct
from msgspec.structs import replace

from runtime import Command, Event, Query, Rejected

LIMIT = 60
"""Requests that a client may make in 60 seconds. The count is approximate: see `Window.left`."""


class TooManyRequests(Rejected):
    """The client has used its requests. It may come back after `retry_after` seconds."""


class Window(Struct, frozen=True):
    """The requests of a client that were granted in one minute of the clock, and in the minute before."""

    client: str
    minute: int
    granted: int = 0
    before: int = 0

    def at(self, minute: int) -> "Window":
        """Return the window of a later minute, or this one."""
        if minute <= self.minute:
            return self
        before = self.granted if minute == self.minute + 1 else 0
        return replace(self, minute=minute, granted=0, before=before)

    def granted_in(self, minute: int) -> int:
        """Return the requests that were granted in a minute: that of the window, or the one before."""
        if minute == self.minute:
            return self.granted
        return self.before if minute == self.minute - 1 else 0

    def left(self, now: float) -> float:
        """Return the number of requests that are left.

        The minute before counts for its part that is in the last 60 seconds, as if its requests were spread evenly.
        """
        return LIMIT - self.granted - self.before * (self.minute + 1 - now / 60)

    def wait(self, now: float) -> float:
        """Return the seconds until a request is granted, 0 if it is granted now."""
        if self.left(now) >= 1:
            return 0
        end = 60 * (self.minute + 1) - now
        if self.granted < LIMIT:
            wait = end - 60 * (LIMIT - 1 - self.granted) / self.before
        else:
            wait = end + 60 - 60 * (LIMIT - 1) / self.granted
        return wait + 0.001  # one millisecond for the rounding


class Take(Command[int], actor="limiter", key="client"):
    """Take one request of a client. The reply is the number of requests that are left at once.

    It is refused with `TooManyRequests`, whose `retry_after` is the time to wait.
    """

    client: str


class ListHeaviest(Query[list[Window]], actor="limiter"):
    """The clients with the most requests in this minute."""

    count: int = 10


class MakeReport(Command[None], actor="limiter", key="report"):
    report: str = "report"


class ForgetClient(Command[None], actor="limiter", key="client"):
    client: str


class Usage(Struct, frozen=True):
    client: str
    granted: int


class MinuteReported(Event, actor="limiter", key="minute"):  # actorloom: ignore[unread-event] - for operators
    """The requests of one minute, which is a number of minutes since 1970.

    A minute has no report if the actor was down until the end of the next one: its clients have gone on since.
    """

    minute: int
    granted: int
    clients: int
    heaviest: tuple[Usage, ...]
