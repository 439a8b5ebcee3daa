"""The runtime's instruments: a histogram of durations, a counter and a gauge, each with constant attributes.

The first two are used on the path of every message. Recording a duration only appends it to a list. The durations are sorted
into buckets in batches, which takes a third of the time that it takes one by one.
"""

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping

from opentelemetry.util.types import AttributeValue

from runtime.telemetry import semconv
from runtime.telemetry.spans.scope import Service

BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025),
    # From here on, the bounds that the conventions advise.
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
"""Upper bounds of the buckets, in seconds. The conventions start at 5 ms, so most durations would be in one bucket."""
_BOUNDS_NS = [round(bound * 1e9) for bound in BOUNDS]

_MAX_ERROR_TYPES = 50
"""Error types of a histogram that have a series of their own; further types share one."""
_BATCH_SIZE = 512
"""Recorded durations that are sorted into buckets at once."""
_COUNTING = threading.Lock()
"""Held while durations are sorted into buckets, by the recording thread or a reading one."""


class Instrument:
    """A series: a metric name within a service, and constant attributes."""

    __slots__ = ("attributes", "description", "name", "service", "started", "unit")

    def __init__(
        self, service: Service, name: str, unit: str, description: str, attributes: Mapping[str, AttributeValue]
    ) -> None:
        self.service = service
        self.name = name
        self.unit = unit
        self.description = description
        self.attributes = dict(attributes)
        self.started = time.time_ns()
        """Unix nanoseconds."""


class Counter(Instrument):
    """A sum that only increases. Add to it with `counter.value += n`, from one thread only."""

    __slots__ = ("value",)

    def __init__(
        self, service: Service, name: str, unit: str, description: str, attributes: Mapping[str, AttributeValue]
    ) -> None:
        super().__init__(service, name, unit, description, attributes)
        self.value = 0


class Gauge(Instrument):
    """A value that is read when metrics are collected, from any thread. It has no value now if `read` returns None."""

    __slots__ = ("read",)

    def __init__(
        self,
        service: Service,
        name: str,
        unit: str,
        description: str,
        attributes: Mapping[str, AttributeValue],
        read: Callable[[], float | None],
    ) -> None:
        super().__init__(service, name, unit, description, attributes)
        self.read = read


class Durations(Instrument):
    """A histogram of durations. Record from one thread only; any thread may read."""

    __slots__ = ("_counts", "_largest", "_pending", "_smallest", "_total", "errors")

    def __init__(
        self, service: Service, name: str, unit: str, description: str, attributes: Mapping[str, AttributeValue]
    ) -> None:
        super().__init__(service, name, unit, description, attributes)
        self._pending: list[int] = []
        """Durations in nanoseconds that are not in the buckets yet."""
        self._counts = [0] * (len(BOUNDS) + 1)
        self._total = 0
        self._smallest = 0
        self._largest = 0
        self.errors: dict[str, Durations] = {}
        """The series of failures, by error type."""

    def record(self, nanoseconds: int) -> None:
        """Record the duration of a success."""
        pending = self._pending
        pending.append(nanoseconds)
        if len(pending) >= _BATCH_SIZE:
            self._count()

    @property
    def counts(self) -> list[int]:
        """The number of durations in each bucket; the last bucket has no upper bound."""
        self._count()
        return self._counts

    @property
    def sum(self) -> float:
        """The sum of all durations, in seconds."""
        self._count()
        return self._total / 1e9

    @property
    def smallest(self) -> float:
        """The shortest duration in seconds; 0 if there is none."""
        self._count()
        return self._smallest / 1e9

    @property
    def largest(self) -> float:
        """The longest duration in seconds; 0 if there is none."""
        self._count()
        return self._largest / 1e9

    def _count(self) -> None:
        """Sort the pending durations into the buckets."""
        with _COUNTING:
            recorded = len(self._pending)
            if not recorded:
                return
            durations = sorted(self._pending[:recorded])
            del self._pending[:recorded]
            if durations[0] < 0:  # the wall clock was set back in between; a sum must never decrease
                durations = [max(duration, 0) for duration in durations]
            counts, counted = self._counts, 0
            self._smallest = min(self._smallest, durations[0]) if any(counts) else durations[0]
            self._largest = max(self._largest, durations[-1])
            self._total += sum(durations)
            for index, bound in enumerate(_BOUNDS_NS):
                up_to_bound = bisect_right(durations, bound, counted)
                counts[index] += up_to_bound - counted
                counted = up_to_bound
            counts[-1] += recorded - counted

    def record_error(self, nanoseconds: int, code: int | None = None, error: str | None = None) -> None:
        """Record the duration of a failure, in a series of its error type.

        Args:
            nanoseconds: The duration.
            code: The code of the error reply, if it has one.
            error: The class of the error. It is the `error.type` if the error has no code.
        """
        kind = str(error) if code is None else str(code)
        series = self.errors.get(kind)
        if series is None:
            # The conventions ask for a series per error type. User code names the types, so their number is limited.
            kind = kind if len(self.errors) < _MAX_ERROR_TYPES else "_OTHER"
            attributes = {**self.attributes, semconv.ERROR_TYPE: kind}
            if code is not None and self.name.startswith("rpc."):
                attributes[semconv.RPC_RESPONSE_STATUS_CODE] = str(code)
            series = Durations(self.service, self.name, self.unit, self.description, attributes)
            series = self.errors.setdefault(kind, series)
        series.record(nanoseconds)
