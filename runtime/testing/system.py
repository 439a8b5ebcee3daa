"""Actors that run in the process of a test, on a real nats-server."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from runtime.actor.base import Actor
from runtime.bounds import Replicas, SecondsOrNone, check
from runtime.client.bus import Bus
from runtime.host.process import Runner, serving, shut_down
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.options import Options
from runtime.storage.streams import events_config
from runtime.telemetry import SpanRecord, Tracing
from runtime.wire.subjects import Names

_POLL = 0.01
"""Seconds between two checks of a condition."""


class System:
    """Actors that run in this process for one test."""

    def __init__(self, runner: Runner, bus: Bus, tracing: Tracing) -> None:
        """Wrap a running `Runner`; `running` does this."""
        self.runner = runner
        """Serves the actors; `runner.stop()` drains them."""
        self.bus = bus
        """A bus on the connection of the actors, in their namespace."""
        self.tracing = tracing
        """The spans of the actors and of `bus`."""
        self.connection = runner.connection

    async def until(self, condition: Callable[[], Any], timeout: float = 20.0) -> Any:
        """Call `condition`, which may be async, until it returns a true value, and return that value.

        Args:
            condition: Called every 10 ms.
            timeout: Seconds.

        Raises:
            TimeoutError: The condition has not become true in time.
        """
        check("timeout", timeout, SecondsOrNone)
        async with asyncio.timeout(timeout):
            while True:
                found = condition()
                if isinstance(found, Awaitable):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(_POLL)

    def trace_of(self, trace_id: str | None = None, *, root: str | None = None) -> list[SpanRecord]:
        """Return the ended spans of one trace, oldest first.

        Args:
            trace_id: The id of the trace. None: the trace of the last span that ended.
            root: The name of the first span of the trace, such as ``orders/create_order``. Of several traces that begin with
                it, the newest is returned.
        """
        spans = self.tracing.finished()
        if trace_id is None:
            candidates = [span for span in spans if root is None or (span.name == root and span.parent_id is None)]
            trace_id = candidates[-1].trace_id if candidates else ""
        return [span for span in spans if span.trace_id == trace_id]


@asynccontextmanager
async def running(
    *actors: type[Actor[Any]],
    url: str,
    namespace: str = "",
    options: Mapping[str, Options] | None = None,
    tracing: Tracing | None = None,
    lease_ttl: float = 4.0,
    loopback: bool = False,
    sources: Iterable[str] = (),
    replicas: Replicas = 1,
) -> AsyncGenerator[System]:
    """Run actors against a server until the block ends, then drain them.

    Args:
        actors: The classes of the actors.
        url: The URL of the nats-server.
        namespace: The first token of all subjects and streams. Tests that share a server need one each.
        options: Options by the name of an actor.
        tracing: The destination of spans; in memory by default.
        lease_ttl: Seconds after which the lease of a lost owner expires.
        loopback: Whether requests between the actors skip NATS.
        sources: The names of actors that do not run. The test creates their events streams, as they would, so that it
            can emit their events for the reactions of the other actors.
        replicas: The number of replicas of each stream, on a cluster.

    Raises:
        ActorError: The actors cannot be served.
        TimeoutError: The actors are not ready within 30 s.
    """
    traces = tracing or Tracing(in_memory=True)
    connection = await Connection.connect(ConnectionOptions(url=url, loopback=loopback), name="test")
    try:
        for source in sources:
            await JetStream(connection).ensure_stream(events_config(Names(source, namespace), replicas))
        async with serving(
            actors, connection, traces, namespace=namespace, options=options, lease_ttl=lease_ttl, replicas=replicas
        ) as runner:
            yield System(runner, Bus(connection, traces.service("test"), namespace=namespace), traces)
    finally:
        await connection.close()
        await shut_down(traces, 1.0)
