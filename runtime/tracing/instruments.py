"""What the hot path measures with: a histogram of durations and a counter, whose attributes are fixed.

Recording is a bisection and two additions in the recording thread; everything else happens where they are read.
"""

import time
from bisect import bisect_left
from collections.abc import Mapping

from opentelemetry.util.types import AttributeValue

from runtime.tracing import conventions as names
from runtime.tracing.scope import Service

BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025),
    # From here on the buckets that the conventions advise.
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
"""Upper bounds of the buckets, in seconds. The conventions advise 5 ms and up, where most of ours would be in one."""

_ERRORS = 50


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
    """A histogram of seconds; `counts` has one bucket more than `BOUNDS`. Record from one thread."""

    __slots__ = ("counts", "errors", "largest", "smallest", "sum")

    def __init__(
        self, service: Service, name: str, unit: str, description: str, attributes: Mapping[str, AttributeValue]
    ) -> None:
        super().__init__(service, name, unit, description, attributes)
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0
        self.smallest = float("inf")
        self.largest = 0.0
        self.errors: dict[str, Durations] = {}

    def record(self, seconds: float) -> None:
        """Count one duration that ended well."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds
        if seconds > self.largest:
            self.largest = seconds
        if seconds < self.smallest:
            self.smallest = seconds

    def record_error(self, seconds: float, code: int | None = None, error: str | None = None) -> None:
        """Count one that failed, as a series of its own: `error.type` is `error`, or the code where that is None."""
        kind = error or str(code)
        series = self.errors.get(kind)
        if series is None:
            # A series per error type is the convention; what an error may be called is not ours to bound otherwise.
            kind = kind if len(self.errors) < _ERRORS else "_OTHER"
            attributes = {**self.attributes, names.ERROR_TYPE: kind}
            if code is not None and self.name.startswith("rpc."):
                attributes[names.RPC_RESPONSE_STATUS_CODE] = str(code)
            series = Durations(self.service, self.name, self.unit, self.description, attributes)
            series = self.errors.setdefault(kind, series)
        series.record(seconds)
