"""Protection of a failing service from its callers: a circuit breaker per operation, and a budget for retries."""

import time
from collections.abc import Callable

from runtime.bounds import Bounded, Count, Seconds, SecondsOrNone
from runtime.errors import RequestError


class BreakerPolicy(Bounded, frozen=True):
    """The limits of a circuit breaker.

    A circuit opens after `failures` failures in a row, if the first of them is at least `min_duration` seconds old. A failure
    is a timeout or a missing service; an error reply is not. The duration matters because an actor that changes owners is
    unavailable for a moment, and hundreds of requests may fail in it.
    """

    failures: Count = 20
    """Failures in a row after which the circuit opens."""
    min_duration: SecondsOrNone = 1.0
    """Seconds over which these failures extend at least."""
    probe_interval: Seconds = 0.25
    """Seconds between requests that are sent as probes while the circuit is open."""


class Breaker:
    """The circuit breaker of one operation.

    While the circuit is open, requests are refused, except for one probe per interval. Any reply closes it. A probe does not
    wait for the reply to the last one: if that one reached a member of the queue group that is stopped, it has no result
    before its timeout, and the next probe may reach a member that replies.

    The class is not thread-safe.

    Args:
        policy: The limits.
        clock: Returns the time in seconds.
    """

    __slots__ = ("_clock", "_policy", "_probe_at", "_since", "failures", "is_open", "reason")

    def __init__(self, policy: BreakerPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self.failures = 0
        """Failures in a row. While it is 0, the circuit is closed, and callers need not call the methods."""
        self.is_open = False
        """Whether requests are refused, except for probes."""
        self.reason: RequestError | None = None
        """The last of the failures, for the error of a request that is refused."""
        self._since = 0.0
        """The time of the first of the failures."""
        self._probe_at = 0.0
        """The time of the next probe."""

    def allows(self) -> bool:
        """Return whether a request may be sent now. If it is a probe, the next interval begins."""
        if not self.is_open:
            return True
        now = self._clock()
        if now < self._probe_at:
            return False
        self._probe_at = now + self._policy.probe_interval
        return True

    def record_reply(self) -> None:
        """Close the circuit: the service has replied, possibly with an error."""
        self.failures = 0
        self.reason = None
        self.is_open = False

    def record_failure(self, reason: RequestError | None = None) -> bool:
        """Count a request without a reply.

        Args:
            reason: The error for its caller.

        Returns:
            Whether the circuit was closed and is now open.
        """
        now = self._clock()
        # A copy: the raised error refers to the frames of its caller.
        self.reason = None if reason is None else type(reason)(str(reason))
        if not self.failures:
            self._since = now
        self.failures += 1
        if self.is_open or self.failures < self._policy.failures or now < self._since + self._policy.min_duration:
            return False
        self.is_open = True
        self._probe_at = now + self._policy.probe_interval
        return True


class RetryBudget:
    """Limits retries to a share of the requests, so that retries do not multiply the load of a service that is overloaded.

    Args:
        share: Retries that one request earns.
        limit: The upper limit of saved retries; also the number at the start.
    """

    __slots__ = ("_limit", "_share", "_tokens")

    def __init__(self, share: float = 0.2, limit: float = 50.0) -> None:
        self._share = share
        self._limit = limit
        self._tokens = limit

    def earn(self) -> None:
        """Count a request."""
        if self._tokens < self._limit:
            self._tokens += self._share

    def spend(self) -> bool:
        """Take one retry from the budget. Returns False if it has none left."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
