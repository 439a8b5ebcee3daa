"""What keeps a caller from making an outage worse: a circuit breaker per target operation, and a budget for retries."""

import time
from collections.abc import Callable

import msgspec


class BreakerPolicy(msgspec.Struct, frozen=True):
    """When a circuit opens: after `failures` time-outs or missing responders in a row (a refusal is an answer) that came over
    `lasting` seconds at least: an actor that changes hands is away for a moment only, however many ask meanwhile.

    While it is open, one request in `pause` seconds is let through as a probe.
    """

    failures: int = 20
    lasting: float = 1.0
    pause: float = 0.25


class Breaker:
    """The circuit to one operation: closed, or open for all but the probes. Not thread-safe.

    Probes do not wait for one another: one that is sent to a member of the queue group that is stopped tells nothing before its
    time-out, and the next one may reach a member that answers.
    """

    __slots__ = ("_clock", "_policy", "_probe_at", "_since", "failing", "is_open")

    def __init__(self, policy: BreakerPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self.failing = 0
        """Requests in a row that were not answered; 0 says that there is nothing to ask `allows`."""
        self.is_open = False
        """Whether requests are refused now (the probes excepted)."""
        self._since = 0.0
        self._probe_at = 0.0

    def allows(self) -> bool:
        """Whether a request may be sent now; while the circuit is open, the first in each pause may."""
        if not self.is_open:
            return True
        now = self._clock()
        if now < self._probe_at:
            return False
        self._probe_at = now + self._policy.pause
        return True

    def answered(self) -> None:
        """The target answered, be it with a refusal: the circuit is closed."""
        self.failing = 0
        self.is_open = False

    def failed(self) -> bool:
        """No answer in time, or nobody there; return whether that has opened the circuit."""
        now = self._clock()
        if not self.failing:
            self._since = now
        self.failing += 1
        if self.is_open or self.failing < self._policy.failures or now < self._since + self._policy.lasting:
            return False
        self.is_open = True
        self._probe_at = now + self._policy.pause
        return True


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
