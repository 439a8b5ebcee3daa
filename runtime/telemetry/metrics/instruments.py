"""What the hot path measures with: a histogram of durations and a counter, whose attributes are fixed.

Recording is an append in the recording thread; they are counted by the hundred, or where they are read.
"""

import threading
import time
from bisect import bisect_right
from collections.abc import Mapping

from opentelemetry.util.types import AttributeValue

from runtime.telemetry import semconv
from runtime.telemetry.spans.scope import Service

BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025),
    # From here on the buckets that the conventions advise.
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
"""Upper bounds of the buckets, in seconds. The conventions advise 5 ms and up, where most of ours would be in one."""
_BOUNDS_NS = [round(bound * 1e9) for bound in BOUNDS]

_ERRORS = 50
_AT_ONCE = 512
_COUNTING = threading.Lock()
"""Held while durations are counted, by whoever records or reads."""


class Instrument:
    """What a series is called: a metric name within a service, and attributes that do not change."""

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


class Counter(Instrument):
    """A sum that only grows. Add with `counter.value += n`, from one thread."""

    __slots__ = ("value",)

    def __init__(
        self, service: Service, name: str, unit: str, description: str, attributes: Mapping[str, AttributeValue]
    ) -> None:
        super().__init__(service, name, unit, description, attributes)
        self.value = 0


class Durations(Instrument):
    """A histogram of durations; `counts` has one bucket more than `BOUNDS`. Record from one thread."""

    __slots__ = ("_counts", "_largest", "_pending", "_smallest", "_total", "errors")

    def __init__(
        self, service: Service, name: str, unit: str, description: str, attributes: Mapping[str, AttributeValue]
    ) -> None:
        super().__init__(service, name, unit, description, attributes)
        self._pending: list[int] = []
        self._counts = [0] * (len(BOUNDS) + 1)
        self._total = 0
        self._smallest = 0
        self._largest = 0
        self.errors: dict[str, Durations] = {}

    def record(self, nanoseconds: int) -> None:
        """Count one duration that ended well."""
        pending = self._pending
        pending.append(nanoseconds)
        if len(pending) >= _AT_ONCE:
            self._count()

    @property
    def counts(self) -> list[int]:
        """How many there are in each bucket."""
        self._count()
        return self._counts

    @property
    def sum(self) -> float:
        """Seconds, all together."""
        self._count()
        return self._total / 1e9

    @property
    def smallest(self) -> float:
        """Seconds of the shortest; 0 where there is none."""
        self._count()
        return self._smallest / 1e9

    @property
    def largest(self) -> float:
        """Seconds of the longest."""
        self._count()
        return self._largest / 1e9

    def _count(self) -> None:
        """Put into the buckets what was recorded since. Hundreds at once cost a third of one at a time."""
        with _COUNTING:
            recorded = len(self._pending)
            if not recorded:
                return
            found = sorted(self._pending[:recorded])
            del self._pending[:recorded]
            if found[0] < 0:  # a wall clock was set back meanwhile: a sum must never fall
                found = [max(one, 0) for one in found]
            counts, below = self._counts, 0
            self._smallest = min(self._smallest, found[0]) if any(counts) else found[0]
            self._largest = max(self._largest, found[-1])
            self._total += sum(found)
            for index, bound in enumerate(_BOUNDS_NS):
                upto = bisect_right(found, bound, below)
                counts[index] += upto - below
                below = upto
            counts[-1] += recorded - below

    def record_error(self, nanoseconds: int, code: int | None = None, error: str | None = None) -> None:
        """Count one that failed, as a series of its own: `error.type` is `error`, or the code where that is None."""
        kind = error or str(code)
        series = self.errors.get(kind)
        if series is None:
            # A series per error type is the convention; what an error may be called is not ours to bound otherwise.
            kind = kind if len(self.errors) < _ERRORS else "_OTHER"
            attributes = {**self.attributes, semconv.ERROR_TYPE: kind}
            if code is not None and self.name.startswith("rpc."):
                attributes[semconv.RPC_RESPONSE_STATUS_CODE] = str(code)
            series = Durations(self.service, self.name, self.unit, self.description, attributes)
            series = self.errors.setdefault(kind, series)
        series.record(nanoseconds)
