"""The gauges of an actor in one process: owned partitions, messages in memory, lag, refusals, and the clock.

They are read when metrics are collected, from values that the host has anyway: no gauge asks the server.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from runtime.host.serving import Serving
from runtime.telemetry import semconv
from runtime.turns.served import Served

if TYPE_CHECKING:
    from runtime.host.owner import Owner


class Gauged(Protocol):
    """The part of `Host` that its gauges read."""

    served: Served
    name: str
    refusals: Callable[[str], list[str]]
    owners: "list[Owner]"

    @property
    def serving(self) -> Sequence[Serving]: ...


def add_gauges(host: Gauged) -> None:
    """Record the gauges of a host whenever metrics are collected, and begin its counter of dead letters at 0."""
    served = host.served
    tracer, clock = served.tracer, served.connection.clock
    tracer.gauge(semconv.CLOCK_OFFSET, lambda: clock.skew if clock.known else None)
    tracer.gauge(semconv.PARTITIONS, lambda: served.options.partitions)
    tracer.gauge(semconv.PARTITIONS_OWNED, lambda: sum(owner.ready for owner in host.owners))
    tracer.gauge(semconv.KEYS_BLOCKED, lambda: sum(each.load.blocked for each in host.serving))
    tracer.gauge(semconv.MESSAGES_WAITING, lambda: sum(each.load.waiting for each in host.serving))
    tracer.gauge(semconv.PERMISSIONS_REFUSED, lambda: len(host.refusals(host.name)))
    tracer.counter(semconv.DEAD_LETTERS_STORED, {})  # A rate of it shows the first one only if it begins before.


def add_lag_gauge(host: Gauged, stream: str) -> None:
    """Record the messages of a stream that wait for a host. It is called again for each owner that pulls from the stream."""

    def read() -> float | None:
        known = [each.consumers.lag[stream] for each in host.serving if stream in each.consumers.lag]
        return sum(known) if known else None

    host.served.tracer.gauge(semconv.CONSUMER_LAG, read, {semconv.STREAM_NAME: stream})
