"""The runner: the hosts of several actors in one process over one connection, from start to drain.

`run` is the whole life of a process: it connects, serves until a signal, drains, and closes. `serving` serves actors
for the duration of a block, over a connection that the caller owns.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

from runtime.actor.base import Actor, require_actor
from runtime.bounds import Replicas
from runtime.errors import ActorError, ConfigurationError
from runtime.faults import error_text, log_fault
from runtime.host.health import Health
from runtime.host.host import Deployment, Host, served_with
from runtime.host.refusals import Refusals
from runtime.host.reports import Reports
from runtime.host.signals import drain_on_signals
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.options import Options
from runtime.telemetry import Tracing
from runtime.telemetry.metrics import prometheus
from runtime.wire.ids import new_id

logger = logging.getLogger("actorloom.host")

_FLUSH_TIMEOUT = 5.0
"""Seconds that each exporter may take for the last spans and metrics."""
_SHUTDOWN_TIMEOUT = 15.0
"""Seconds that all exporters may take together. Those of an application may have no limit of their own."""
_START_TIMEOUT = 120.0
"""Seconds that `serving` waits for its actors to start. An actor with an index reads all of its keys, and may have a million."""
_DRAIN_TIMEOUT = 30.0
"""Seconds that `serving` waits for the drain."""


class Runner:
    """Runs the hosts of several actors, until `stop`. They share one connection, which the caller closes.

    An actor that serves further actors makes it by `Runner.beside` in `on_start`, and runs it in a task until `on_stop`.

    Args:
        actors: The classes of the actors. Their names must differ.
        connection: The connection to use.
        tracing: The receiver of spans and metrics.
        deployment: The settings that all hosts share.
        options: Options by actor name; an actor without an entry has those of its class.

    Raises:
        ConfigurationError: Two actors have the same name.
        DeclarationError: A class is not that of an actor.
    """

    def __init__(
        self,
        actors: Sequence[type[Actor[Any]]],
        connection: Connection,
        tracing: Tracing,
        deployment: Deployment = Deployment(),
        *,
        options: Mapping[str, Options] | None = None,
    ) -> None:
        for actor in actors:
            require_actor(actor)
        names = [actor.name for actor in actors]
        duplicates = {name for name in names if names.count(name) > 1}
        if duplicates:
            raise ConfigurationError(f"two actors have the same name: {', '.join(sorted(duplicates))}")
        self.connection = connection
        self.tracing = tracing
        self._stopping = False
        holder = f"{socket.gethostname()}-{os.getpid()}-{new_id()[-6:]}"
        self.hosts = [
            Host(actor, connection, tracing, deployment, holder=holder, options=(options or {}).get(actor.name))
            for actor in actors
        ]
        self.exit: BaseException | None = None
        """The exception of a handler that has asked for the end of the process; None if there is none."""
        self._expired: str | None = None
        """Why the connection cannot be kept; None while it can."""
        self._refusals = Refusals(connection, [owner.served.names for host in self.hosts for owner in host.owners])
        for host in self.hosts:
            host.siblings = self.hosts
            host.refusals = self._refusals.reasons
            host.on_exit = self._exit

    @classmethod
    def beside(cls, actor: Actor[Any], actors: Sequence[type[Actor[Any]]]) -> "Runner":
        """Return a runner of further actors, with the connection, the tracing and the settings of one that this process serves.

        Args:
            actor: The actor itself, ``self`` in `on_start`.
            actors: The classes of the further actors.

        Raises:
            ConfigurationError: Two actors have the same name.
            DeclarationError: `actor` is not the actor itself, or another class is not that of an actor.

        Example:
            self.runner = Runner.beside(self, [Imports])
            self.serving = asyncio.create_task(self.runner.run())
        """
        return cls(actors, *served_with(actor))

    async def run(self) -> None:
        """Serve until `stop`, and return when all hosts have drained.

        The first host that fails ends all of them, without a drain. `exit` is set if a handler has asked for the end.

        Nothing waits without a bound for the code of an actor. A hook that ignores its cancellation is left alone.

        Raises:
            ActorError: A host failed, a hook failed or does not end, or the connection was closed for good.
            ConfigurationError: The server is too old.
        """
        self.connection.require_version()
        self.connection.on_expiring.append(self._expire)
        hosts = {asyncio.ensure_future(host.run()): host.hooks.left for host in self.hosts}
        closed = asyncio.ensure_future(self.connection.wait_closed())
        reports = asyncio.ensure_future(Reports(self.hosts, JetStream(self.connection)).run())
        refusals = asyncio.ensure_future(self._refusals.run())
        try:
            waiting = set(hosts)
            while waiting:
                ends = {*waiting, closed, *(hosts[host] for host in waiting)}
                done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if closed in done:
                    raise ActorError(f"the connection to NATS is closed for good: {closed.result()}")
                for host in waiting & done:
                    await host
                waiting = {host for host in waiting - done if not hosts[host].done()}
            if left := [f"{host.name}: {host.hooks.left.result()}" for host in self.hosts if host.hooks.left.done()]:
                raise ActorError(f"a hook does not end: {', '.join(left)}")
            if failed := [host.name for host in self.hosts if host.hooks.stop_failed]:
                raise ActorError(f"on_stop failed: {', '.join(failed)}")
            if self._expired is not None:
                raise ActorError(self._expired)
        finally:
            self.connection.on_expiring.remove(self._expire)
            for host in self.hosts:
                host.hooks.cancel_start()
            for task in (closed, reports, refusals, *hosts):
                task.cancel()
            await asyncio.gather(reports, refusals, *(_ended(*each) for each in hosts.items()), return_exceptions=True)

    async def wait_ready(self) -> None:
        """Wait until every host serves its actor or is in standby, and the server refuses nothing."""
        while not all(host.ready.is_set() or host.standby for host in self.hosts) or self._refusals.reasons():
            await asyncio.sleep(0.005)

    async def wait_serving(self) -> None:
        """Wait until every host serves its actor."""
        for host in self.hosts:
            await host.ready.wait()

    def unready_reasons(self) -> list[str]:
        """Return the reasons why this process is not ready.

        The list is empty if every host serves or is in standby, and the server refuses nothing that they need.
        """
        if not self.connection.is_connected:
            return ["not connected to NATS"]
        if self._stopping:
            return ["draining"]
        starting = [host for host in self.hosts if not host.ready.is_set() and not host.standby]
        reasons = [f"{host.name} is starting{f': {host.failure}' if host.failure else ''}" for host in starting]
        return reasons + self._refusals.reasons()

    def raise_exit(self) -> None:
        """Raise the exception of a handler that has asked for the end of the process, if there is one."""
        if self.exit is not None:
            raise self.exit

    def _exit(self, error: BaseException) -> None:
        if self.exit is None:
            self.exit = error
            self.stop()

    def _expire(self, reason: str) -> None:
        """Drain while the leases can still be released."""
        self._expired = reason
        self.stop()

    def warnings(self) -> list[str]:
        """Return what does not work although the process is ready: the reactions that wait."""
        return [f"{host.name}: {text}" for host in self.hosts for text in host.warnings]

    def stop(self) -> None:
        """Drain all hosts. `run` returns when they have drained."""
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
    replicas: Replicas = 1,
    allow_breaking: bool = False,
) -> AsyncGenerator[Runner]:
    """Serve `actors` for the duration of the block, and drain them at its end. The caller closes the connection.

    Args:
        actors: The classes of the actors. The block begins when this process serves all of them.
        connection: The connection to use.
        tracing: The receiver of spans and metrics.
        namespace: The prefix of every subject and stream.
        options: Options by actor name.
        lease_ttl: Seconds after which another process takes over from an owner that died.
        replicas: The number of replicas of each stream.
        allow_breaking: Whether an actor starts although its contract has changed in a way that breaks others.

    Raises:
        ActorError: An actor cannot be served.
        TimeoutError: The actors do not start within 120 s, or do not drain within 30 s.
        SystemExit: A handler has raised it. The block is cancelled, and the actors have drained. The same holds for
            `KeyboardInterrupt`.
    """
    deployment = Deployment(namespace=namespace, lease_ttl=lease_ttl, replicas=replicas, allow_breaking=allow_breaking)
    runner = Runner(actors, connection, tracing, deployment, options=options)
    work = asyncio.ensure_future(runner.run())
    try:
        ready = asyncio.ensure_future(runner.wait_serving())
        await asyncio.wait({work, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=_START_TIMEOUT)
        if work.done():
            ready.cancel()
            await work
            runner.raise_exit()
        if not ready.done():
            raise TimeoutError(f"the actors did not begin to serve within {_START_TIMEOUT:.0f} s")
        with _cancelled_on_exit(runner, work):
            yield runner
        runner.stop()
        await asyncio.wait({work}, timeout=_DRAIN_TIMEOUT)
        if not work.done():
            raise TimeoutError(f"the actors did not drain within {_DRAIN_TIMEOUT:.0f} s; the log names what still runs")
        await work
        runner.raise_exit()
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def run(
    actors: Sequence[type[Actor[Any]]],
    connection_options: ConnectionOptions,
    deployment: Deployment = Deployment(),
    *,
    options: Mapping[str, Options] | None = None,
    on_ready: Callable[[Runner], object] | None = None,
    report: Callable[[Runner, Health], AbstractAsyncContextManager[object]] | None = None,
    scraped: bool = False,
) -> None:
    """Connect, and serve `actors` until SIGTERM or SIGINT. A second signal ends the process at once.

    Args:
        actors: The classes of the actors.
        connection_options: The address of NATS, and credentials.
        deployment: The settings that all actors share.
        options: Options by actor name.
        on_ready: Called once, when each actor is served by this process or in standby.
        report: Returns a block that is open while the process serves, and shows its health to others.
        scraped: Whether others read the metrics there.

    Raises:
        ActorError: The actors cannot be served, or no longer. The process should exit non-zero.
        SystemExit: A handler has raised it, and the actors have drained. The same holds for `KeyboardInterrupt`.
    """
    tracing = Tracing.from_env()
    tracing.install(scraped=scraped)
    connection = await Connection.connect(connection_options, name="+".join(actor.name for actor in actors))
    try:
        runner = Runner(actors, connection, tracing, deployment, options=options)
    except BaseException:
        await connection.close()
        raise

    def stop(received: signal.Signals) -> None:
        logger.info("%s: draining (a second signal ends the process at once)", received.name)
        runner.stop()

    with drain_on_signals(stop):
        try:
            async with _call_when_ready(runner, on_ready), _reported(runner, report):
                await runner.run()
        finally:
            await connection.close()
            await shut_down(tracing)
    runner.raise_exit()


async def _ended(host: asyncio.Future[None], left: asyncio.Future[str]) -> None:
    """Wait until a host has ended, or its hook is left alone."""
    await asyncio.wait({host, left}, return_when=asyncio.FIRST_COMPLETED)
    if host.done() and not host.cancelled():
        host.exception()  # It is retrieved, so that asyncio does not log it.


@contextmanager
def _cancelled_on_exit(runner: Runner, work: asyncio.Future[None]) -> Generator[None]:
    """Cancel the block if `work` ends because a handler has asked for the end of the process, and raise its exception."""
    task = asyncio.current_task()
    assert task is not None
    cancelled = False

    def cancel(_: object) -> None:
        nonlocal cancelled
        if runner.exit is not None:
            cancelled = task.cancel()

    work.add_done_callback(cancel)
    try:
        yield
    except asyncio.CancelledError:
        if cancelled and not task.uncancel():
            runner.raise_exit()
        raise
    finally:
        work.remove_done_callback(cancel)


async def shut_down(tracing: Tracing, timeout: float = _FLUSH_TIMEOUT) -> None:
    """Export the last spans and metrics, and leave exporters alone that do not end within `_SHUTDOWN_TIMEOUT` seconds.

    Args:
        tracing: The tracing of the process.
        timeout: Seconds that each exporter may take.
    """
    shutdown = asyncio.ensure_future(asyncio.to_thread(tracing.shutdown, timeout))
    await asyncio.wait({shutdown}, timeout=_SHUTDOWN_TIMEOUT)
    if not shutdown.done():
        logger.error("the exporters of spans and metrics have not ended within %g s", _SHUTDOWN_TIMEOUT)
        shutdown.cancel()
    elif (error := shutdown.exception()) is not None:
        log_fault(logger, "the last spans or metrics were not exported: %s", error_text(error), error=error)


@asynccontextmanager
async def _call_when_ready(runner: Runner, on_ready: Callable[[Runner], object] | None) -> AsyncGenerator[None]:
    async def call() -> None:
        await runner.wait_ready()
        if on_ready is not None:
            on_ready(runner)

    task = asyncio.ensure_future(call())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _reported(
    runner: Runner, report: Callable[[Runner, Health], AbstractAsyncContextManager[object]] | None
) -> AsyncGenerator[None]:
    if report is None:
        yield
        return
    metrics = runner.tracing.metrics

    def text() -> tuple[str, str]:
        return prometheus.CONTENT_TYPE, prometheus.render(metrics.collect())

    async with (
        Health(reasons=runner.unready_reasons, warnings=runner.warnings, metrics=text) as health,
        report(runner, health),
    ):
        yield
