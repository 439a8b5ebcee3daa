"""The metrics of published messages: their durations, and the number of attempts."""

from collections.abc import Callable

from runtime.telemetry.metrics.instruments import Counter, Durations


class Publishes:
    """Records the publishes of one kind of message. `ServiceTracer.publishes` creates it.

    Args:
        durations: The histogram of the durations.
        sent: Returns the counter of the attempts that ended with an error type; that of the successes for "".
    """

    __slots__ = ("_counter", "_durations", "_sent")

    def __init__(self, durations: Durations, sent: Callable[[str], Counter]) -> None:
        self._durations = durations
        self._counter = sent
        self._sent = sent("")

    def record(self, nanoseconds: int) -> None:
        """Record the duration of a publish that was acknowledged."""
        self._durations.record(nanoseconds)
        self._sent.value += 1

    def record_error(self, nanoseconds: int, code: int | None, error: str) -> None:
        """Record the duration of a publish that failed. Arguments as in `Durations.record_error`."""
        self._durations.record_error(nanoseconds, code, error)
        self._counter(error if code is None else str(code)).value += 1
