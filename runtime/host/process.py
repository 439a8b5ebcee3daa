"""The runner: several hosts in one process over one connection, from start to drain."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from runtime.actor.base import Actor
from runtime.errors import ActorError, ConfigurationError
from runtime.host.health import HealthServer
from runtime.host.host import Host
from runtime.host.signals import drain_on_signals
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.options import Options
from runtime.telemetry import Tracing
from runtime.telemetry.metrics import prometheus
from runtime.wire.ids import new_id

logger = logging.getLogger("actorloom.host")

_FLUSH = 5.0
_START = 30.0


class Runner:
    """Runs actors of several types until `stop`; the connection is closed and spans are flushed when it ends."""

    def __init__(
        self,
        actors: Sequence[type[Actor[Any]]],
        connection: Connection,
        tracing: Tracing,
        *,
        namespace: str = "",
        options: Mapping[str, Options] | None = None,
        lease_ttl: float = 4.0,
        replicas: int = 1,
    ) -> None:
        names = [actor.name for actor in actors]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ConfigurationError(f"two actors have the same name: {', '.join(sorted(twice))}")
        self.connection = connection
        self.tracing = tracing
        self._stopping = False
        holder = f"{socket.gethostname()}-{os.getpid()}-{new_id()[-6:]}"
        self.hosts = [
            Host(
                actor,
                connection,
                tracing,
                namespace=namespace,
                options=(options or {}).get(actor.name),
                holder=holder,
                lease_ttl=lease_ttl,
                replicas=replicas,
            )
            for actor in actors
        ]
        for host in self.hosts:
            host.siblings = self.hosts

    async def run(self) -> None:
        """Serve until `stop`. Raises `ActorError` where a host fails for good, or the connection is closed for good."""
        hosts = [asyncio.ensure_future(host.run()) for host in self.hosts]
        closed = asyncio.ensure_future(self.connection.wait_closed())
        try:
            waiting = set(hosts)
            while waiting:
                done, _ = await asyncio.wait({*waiting, closed}, return_when=asyncio.FIRST_COMPLETED)
                if closed in done:
                    raise ActorError(f"the connection to NATS is closed for good: {closed.result()}")
                for host in done:
                    await host
                waiting -= done
        finally:
            closed.cancel()
            for task in hosts:
                task.cancel()
            await asyncio.gather(*hosts, return_exceptions=True)

    async def ready(self) -> None:
        """Return when every host serves, or stands by for another process that does."""
        while not all(host.ready.is_set() or host.standby for host in self.hosts):
            await asyncio.sleep(0.005)

    async def serving(self) -> None:
        """Return when every host serves."""
        for host in self.hosts:
            await host.ready.wait()

    def reasons(self) -> list[str]:
        """Return why this process is not ready for messages; nothing where it is, or stands by for one that is."""
        if not self.connection.is_connected:
            return ["not connected to NATS"]
        if self._stopping:
            return ["draining"]
        return [f"{host.name} is starting" for host in self.hosts if not host.ready.is_set() and not host.standby]

    def stop(self) -> None:
        """Drain all hosts; `run` ends when they have."""
        self._stopping = True
        for host in self.hosts:
            host.drain()


@asynccontextmanager
async def serving(
    actors: Sequence[type[Actor[Any]]],
    connection: Connection,
    tracing: Tracing,
    *,
    namespace: str = "",
    options: Mapping[str, Options] | None = None,
    lease_ttl: float = 4.0,
) -> AsyncGenerator[Runner]:
    """Serve `actors` over `connection` until the block ends, then drain them; the caller closes the connection.

    Raises `ActorError` where they cannot serve, `TimeoutError` where they do not within 30 s.
    """
    runner = Runner(actors, connection, tracing, namespace=namespace, options=options, lease_ttl=lease_ttl)
    work = asyncio.ensure_future(runner.run())
    try:
        ready = asyncio.ensure_future(runner.serving())
        await asyncio.wait({work, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=_START)
        if work.done():
            ready.cancel()
            await work
        if not ready.done():
            raise TimeoutError(f"the actors did not begin to serve within {_START:.0f} s")
        yield runner
        runner.stop()
        async with asyncio.timeout(_START):
            await work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def run(
    actors: Sequence[type[Actor[Any]]],
    options: ConnectionOptions,
    *,
    namespace: str = "",
    actor_options: Mapping[str, Options] | None = None,
    tracing: Tracing | None = None,
    on_ready: Callable[[Runner], object] | None = None,
    lease_ttl: float = 4.0,
    replicas: int = 1,
    health: tuple[str, int] | None = None,
) -> None:
    """Connect, and serve `actors` until SIGTERM or SIGINT; a second signal ends the process at once.

    `health` is host and port of `/livez`, `/readyz` and `/metrics`. `on_ready` is called when all serve or stand by.
    Raises `ActorError` where it cannot serve (any more): the process should exit non-zero.
    """
    traces = tracing or Tracing.from_env()
    traces.install()
    connection = await Connection.connect(options, name="+".join(actor.name for actor in actors))
    runner = Runner(
        actors,
        connection,
        traces,
        namespace=namespace,
        options=actor_options,
        lease_ttl=lease_ttl,
        replicas=replicas,
    )

    def stop(received: signal.Signals) -> None:
        logger.info("%s: draining (a second signal ends the process at once)", received.name)
        runner.stop()

    with drain_on_signals(stop):
        try:
            async with _announced(runner, on_ready), _healthy(runner, health):
                await runner.run()
        finally:
            await connection.close()
            await asyncio.to_thread(traces.shutdown, _FLUSH)


@asynccontextmanager
async def _announced(runner: Runner, on_ready: Callable[[Runner], object] | None) -> AsyncGenerator[None]:
    async def announce() -> None:
        await runner.ready()
        if on_ready is not None:
            on_ready(runner)

    task = asyncio.ensure_future(announce())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _healthy(runner: Runner, address: tuple[str, int] | None) -> AsyncGenerator[None]:
    if address is None:
        yield
        return
    metrics = runner.tracing.metrics

    def text() -> tuple[str, str]:
        return prometheus.CONTENT_TYPE, prometheus.render(metrics.collect())

    async with HealthServer(*address, reasons=runner.reasons, metrics=text):
        yield
