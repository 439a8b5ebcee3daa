"""The gate of a target: how many attempts run at a time and per second, and a circuit that opens after failures in a row.

The circuit is not the one of `client.breaker`. That one refuses requests, and sends probes at a fixed interval beside each other,
because one member of a queue group may be stopped. A target has one address and deliveries that can wait: the pauses grow,
one probe is under way at a time, and nothing is refused.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import msgspec

from runtime.backoff import Backoff
from runtime.router.outcomes import Again, Outcome
from runtime.router.target import Condition


class GateLimits(msgspec.Struct, frozen=True):
    """The limits of a gate."""

    concurrency: int = 16
    """Attempts at one time at most."""
    rate: float | None = None
    """Attempts per second at most; None is no limit. After a pause, a second's worth may begin at once."""
    failures: int = 5
    """Failures in a row that open the circuit."""
    pause: Backoff = Backoff(first=1.0, longest=60.0)
    """The pauses before the probes of an open circuit. They are the most that a Retry-After holds up a target as well."""


class Circuit:
    """A circuit breaker that is closed, open, or lets one probe pass.

    Args:
        limits: The limits.
        clock: Returns the time in seconds.
    """

    __slots__ = ("_clock", "_failed_at", "_held_until", "_limits", "_probe_at", "_probing", "_reason", "failures")

    def __init__(self, limits: GateLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self.failures = 0
        """Failures since the last success."""
        self._held_until = 0.0
        """The time that the target asked to wait for."""
        self._probe_at = 0.0
        """The time of the next probe, while the circuit is open."""
        self._probing = False
        """Whether a probe is under way."""
        self._reason = ""
        """The reason of the last `Again`; empty if there was none."""
        self._failed_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the circuit is open: only a probe may pass."""
        return self.failures >= self._limits.failures

    def condition(self) -> Condition:
        """Return what holds up the attempts, and the last failure."""
        state = "down" if self.is_open else "busy" if self.delay() else "on"
        return Condition(state, self._reason, self._clock() - self._failed_at if self._reason else 0.0)

    def delay(self) -> float | None:
        """Return the seconds until an attempt may begin, 0 for at once; None if it has to wait for the end of a probe."""
        if self.is_open and self._probing:
            return None
        at = max(self._held_until, self._probe_at) if self.is_open else self._held_until
        return max(at - self._clock(), 0.0)

    def begin(self) -> bool:
        """Count an attempt that begins. Returns whether it is the probe of an open circuit."""
        self._probing = self.is_open
        return self._probing

    def end_probe(self) -> None:
        """Let the next probe pass: the last one has ended, with or without an outcome."""
        self._probing = False

    def record(self, outcome: Outcome) -> None:
        """Count an outcome: an `Again` is a failure, and every other answer closes the circuit.

        An `Again` with a time comes from a target that works and is busy. It holds up the next attempts for that time, and is no
        failure while the circuit is closed.
        """
        if not isinstance(outcome, Again):
            self.failures = 0
            return
        now = self._clock()
        self.note(outcome.reason)
        if outcome.after is not None:
            self._held_until = max(self._held_until, now + min(outcome.after, self._limits.pause.longest))
        if outcome.after is None or self.is_open:
            self.failures += 1
            if self.is_open:
                self._probe_at = now + self._limits.pause.delay(self.failures - self._limits.failures + 1)

    def note(self, reason: str) -> None:
        """Keep the reason of a failure that is that of one delivery: the target works, and the circuit stays as it is."""
        self._failed_at = self._clock()
        self._reason = reason


class Bucket:
    """A token bucket: a rate, and a second's worth of tokens at most.

    Args:
        rate: Tokens per second.
        clock: Returns the time in seconds.
    """

    __slots__ = ("_at", "_clock", "_rate", "_tokens")

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._tokens = max(rate, 1.0)
        self._at = clock()

    def take(self) -> float:
        """Take a token. Returns the seconds until it is there: 0 for at once. The callers wait in the order of their calls."""
        now = self._clock()
        self._tokens = min(self._tokens + (now - self._at) * self._rate, max(self._rate, 1.0)) - 1.0
        self._at = now
        return max(-self._tokens / self._rate, 0.0)


class Gate:
    """The gate of one target. Attempts begin in the order in which they ask.

    Args:
        limits: The limits.
        clock: Returns the time in seconds.

    Example:
        async with gate.attempt():
            outcome = await sender.send(settings, request)
            gate.record(outcome)
    """

    __slots__ = ("_bucket", "_changed", "_circuit", "_first", "_slots")

    def __init__(self, limits: GateLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._circuit = Circuit(limits, clock)
        self._bucket = None if limits.rate is None else Bucket(limits.rate, clock)
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._first = asyncio.Lock()
        """Held by the first of the attempts that wait for the rate or the circuit: a lock is handed on in order."""
        self._changed = asyncio.Event()

    def condition(self) -> Condition:
        """Return what holds up the attempts, and the last failure."""
        return self._circuit.condition()

    @asynccontextmanager
    async def attempt(self) -> AsyncGenerator[None]:
        """Wait until an attempt may begin, and hold its place in the block."""
        async with self._slots:
            async with self._first:
                await self._closed()
                if self._bucket is not None:
                    await asyncio.sleep(self._bucket.take())
                    await self._closed()
                probe = self._circuit.begin()
            try:
                yield
            finally:
                if probe:
                    self._circuit.end_probe()
                self._wake()

    def record(self, outcome: Outcome) -> None:
        """Count the outcome of an attempt; see `Circuit.record`. Call it in the block of the attempt."""
        self._circuit.record(outcome)
        self._wake()

    def note(self, reason: str) -> None:
        """Keep the reason of a failure of one delivery, which holds up no other; see `Circuit.note`."""
        self._circuit.note(reason)

    async def _closed(self) -> None:
        """Wait until the circuit lets an attempt pass."""
        while (delay := self._circuit.delay()) != 0.0:
            changed = self._changed
            try:
                async with asyncio.timeout(delay):
                    await changed.wait()
            except TimeoutError:
                continue

    def _wake(self) -> None:
        """Have the attempt that waits look at the circuit again."""
        self._changed.set()
        self._changed = asyncio.Event()
