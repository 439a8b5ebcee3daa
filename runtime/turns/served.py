"""The parts of one served actor that all its components share. Its host makes them once, before it owns any key."""

from collections.abc import Callable
from typing import Any

import msgspec

from runtime.actor.base import Actor
from runtime.nats.connection import Connection
from runtime.nats.jetstream.client import JetStream
from runtime.options import Options
from runtime.storage.streams import Streams
from runtime.telemetry import ServiceTracer, semconv
from runtime.telemetry.bursts import Bursts
from runtime.turns.overrun import Overruns
from runtime.wire.subjects import Names


class Served(msgspec.Struct, frozen=True, eq=False):
    """One actor type as this process serves it."""

    actor: Actor[Any]
    """Its only instance: each message gets a view of it."""
    names: Names
    options: Options
    connection: Connection
    jetstream: JetStream
    streams: Streams
    tracer: ServiceTracer
    holder: str
    """The name of this process as an owner of keys."""
    crashed: Callable[[BaseException], None]
    """The host's callback for a part that failed."""
    exit: Callable[[BaseException], None]
    """The host's callback for an exception that asks for the end of the process: it drains all actors first."""
    consumes: Callable[[str], None]
    """The host's callback for a stream from which an owner begins to pull messages of others: events, or commands by `tell`."""
    bursts: Bursts
    """Joins the log lines of refused requests."""
    namespace: str = ""
    lease_ttl: float = 4.0
    """Seconds."""
    replicas: int = 1

    def overruns(self) -> Overruns:
        """Return a new object that finds the handlers of this actor that run for too long."""
        names = (semconv.HANDLERS_SLOW, semconv.HANDLERS_CUT, semconv.HANDLERS_ABANDONED)
        counters = (self.tracer.counter(name, {}) for name in names)
        return Overruns(self.name, self.options, *counters)

    @property
    def name(self) -> str:
        """The actor's name."""
        return self.names.actor

    @property
    def label(self) -> str:
        """The actor's name for a log line, with the partition if this is one of several."""
        return self.names.label

    @property
    def keyed(self) -> bool:
        """Whether the actor has a state for each key, and so one owner."""
        return self.actor.state_type is not None
