"""What keeps a caller from making an outage worse: a circuit breaker per target operation, and a budget for retries."""

import time
from collections.abc import Callable

import msgspec


class BreakerPolicy(msgspec.Struct, frozen=True):
    """When a circuit opens: after `failures` time-outs or missing responders in a row (a refusal is an answer) that came over
    `lasting` seconds at least: an actor that changes hands is away for a moment only, however many ask meanwhile.

    It stays open for `pause` seconds, doubled each time that the one probe let through then fails, up to `longest`.
    """

    failures: int = 20
    lasting: float = 1.0
    pause: float = 0.5
    longest: float = 2.0


class Breaker:
    """The circuit to one operation: closed, open, or half open with one probe under way. Not thread-safe."""

    __slots__ = ("_clock", "_opened", "_pause", "_policy", "_probing", "_since", "failing", "is_open")

    def __init__(self, policy: BreakerPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self.failing = 0
        """Requests in a row that were not answered; 0 says that there is nothing to ask `allows`."""
        self.is_open = False
        """Whether requests are refused now (one probe excepted)."""
        self._since = 0.0
        self._opened = 0.0
        self._pause = policy.pause
        self._probing = False

    def allows(self) -> bool:
        """Whether a request may be sent now; the first after the pause is the probe."""
        if not self.is_open:
            return True
        if self._probing or self._clock() < self._opened + self._pause:
            return False
        self._probing = True
        return True

    def answered(self) -> None:
        """The target answered, be it with a refusal: the circuit is closed."""
        self.failing = 0
        self.is_open = self._probing = False
        self._pause = self._policy.pause

    def released(self) -> None:
        """The request was given up by its sender: it tells nothing."""
        self._probing = False

    def failed(self) -> bool:
        """No answer in time, or nobody there; return whether that has opened the circuit."""
        now = self._clock()
        if not self.failing:
            self._since = now
        self.failing += 1
        if self._probing:
            self._probing = False
            self._pause = min(self._pause * 2, self._policy.longest)
            self._opened = now
            return False
        if not self.is_open and self.failing >= self._policy.failures and now >= self._since + self._policy.lasting:
            self.is_open = True
            self._opened = now
            return True
        return False


class RetryBudget:
    """Bounds retries to a share of requests: each request earns `share` of a retry, at most `most` are saved up."""

    __slots__ = ("_most", "_share", "_tokens")

    def __init__(self, share: float = 0.2, most: float = 50.0) -> None:
        self._share = share
        self._most = most
        self._tokens = most

    def earn(self) -> None:
        """A request was sent."""
        if self._tokens < self._most:
            self._tokens += self._share

    def spend(self) -> bool:
        """Whether one more retry is within the budget; it is then spent."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
