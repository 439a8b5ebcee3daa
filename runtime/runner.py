"""The runner: several hosts in one process over one connection, from start to drain."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from .actor import Actor
from .errors import ActorError, ConfigurationError
from .host import Host
from .ids import new_id
from .nats.connection import Connection, ConnectionOptions
from .options import Options
from .tracing import Tracing

log = logging.getLogger("actorloom")

_FLUSH = 5.0


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

    def stop(self) -> None:
        """Drain all hosts; `run` ends when they have."""
        for host in self.hosts:
            host.drain()


async def run(
    actors: Sequence[type[Actor[Any]]],
    options: ConnectionOptions,
    *,
    namespace: str = "",
    actor_options: Mapping[str, Options] | None = None,
    tracing: Tracing | None = None,
    on_ready: Any = None,
    lease_ttl: float = 4.0,
    replicas: int = 1,
) -> None:
    """Connect, and serve `actors` until SIGTERM or SIGINT; a second signal ends the process at once.

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
    with _signals(runner):
        try:
            async with _announced(runner, on_ready):
                await runner.run()
        finally:
            await connection.close()
            await asyncio.to_thread(traces.shutdown, _FLUSH)


@asynccontextmanager
async def _announced(runner: Runner, on_ready: Any) -> AsyncGenerator[None]:
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


class _signals:
    """While open: the first SIGTERM or SIGINT drains, the second ends the process at once."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._seen = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received, number)

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    def _received(self, number: int) -> None:
        if self._seen:
            os._exit(128 + number)
        self._seen = True
        log.info("%s: draining; once more ends at once", signal.Signals(number).name)
        self._runner.stop()
