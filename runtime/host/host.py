"""The host of one actor type in one process: standby, ownership, restart after a failure, drain.

A host calls `on_start` of its actor, and then repeats *ownerships* until it drains:

1. **Standby.** An actor with state has one owner at a time, the holder of its lease. The host waits for the lease. An
   actor without state has no owner: every process serves it, and skips this step.
2. **Serving.** The host creates a `Serving`, which catches up, starts to receive messages, and runs until the end of
   the ownership. It is not reused: after a failure, nothing in memory can be trusted.
3. **End.** A drain finishes the work in hand first. After a lost lease or a failure, the work in hand is abandoned; the
   next owner gets it again from JetStream. In both cases the lease is released last.

`runtime.host.restarts` decides what follows a failure.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from runtime.actor.base import Actor
from runtime.bounds import Bounded, LeaseTtl, Replicas
from runtime.errors import ActorError
from runtime.faults import error_text, log_fault
from runtime.host.ending import end_ownership
from runtime.host.hooks import Hooks
from runtime.host.restarts import LeaseLost, Restarts
from runtime.host.serving import Serving, make_lease
from runtime.host.standby import acquire_in_standby
from runtime.nats.connection import Connection, PermissionDenied
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import is_passing
from runtime.nats.lease import Lease
from runtime.options import Options
from runtime.storage.streams import StateLost, Streams
from runtime.telemetry import Tracing, semconv
from runtime.telemetry.bursts import Bursts
from runtime.turns.served import Served
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.host")


class Deployment(Bounded, frozen=True, kw_only=True):
    """The settings that all hosts of a process share."""

    namespace: str = ""
    """The prefix of every subject and stream; empty for none."""
    lease_ttl: LeaseTtl = 4.0
    """Seconds after which another process takes over from an owner that died."""
    replicas: Replicas = 1
    """Copies of each stream in a cluster."""


class Host:
    """Serves one actor type, from `run` to `drain`.

    Args:
        actor: The class of the actor.
        connection: The connection to use. The caller closes it.
        tracing: The receiver of spans and metrics.
        deployment: The settings that all hosts of the process share.
        holder: The name of this process as an owner of keys; unique to each start of a process.
        options: The options of the actor; those of its class if None.
    """

    def __init__(
        self,
        actor: type[Actor[Any]],
        connection: Connection,
        tracing: Tracing,
        deployment: Deployment,
        *,
        holder: str,
        options: Options | None = None,
    ) -> None:
        namespace, replicas = deployment.namespace, deployment.replicas
        names, jetstream = Names(actor.name, namespace), JetStream(connection)
        streams = Streams(jetstream, names, replicas)
        self.served = Served(
            actor=actor(),
            names=names,
            options=options or actor.options,
            connection=connection,
            jetstream=jetstream,
            streams=streams,
            tracer=tracing.service(actor.name, version=actor.version, namespace=namespace),
            holder=holder,
            crashed=self.crashed,
            bursts=Bursts(),
            exit=self.exit,
            namespace=namespace,
            lease_ttl=deployment.lease_ttl,
            replicas=replicas,
        )
        self.served.tracer.gauge(
            semconv.CLOCK_OFFSET, lambda: connection.clock.skew if connection.clock.known else None
        )
        self.name = actor.name
        self.ready = asyncio.Event()
        """Set while this process serves the actor."""
        self.siblings: Sequence[Host] = (self,)
        """All hosts of this process, this one included."""
        self.on_exit: Callable[[BaseException], None] = lambda error: None
        """Called with the exception of a handler that asks for the end of the process."""
        self.hooks = Hooks(self.served.actor, self.exit)
        """`on_start` and `on_stop` of the actor."""
        self.refusals: Callable[[str], list[str]] = lambda actor: []
        """Returns what the server refuses to an actor of this process."""
        self._prepared = asyncio.Event()
        """Set as soon as the streams of the actor exist, or the host drains before."""
        self._drain = asyncio.Event()
        self._failure: asyncio.Future[BaseException] | None = None
        """Ends with the first failure of the current ownership."""
        self._restarts = Restarts(actor.name)
        self._serving: Serving | None = None
        self._lease: Lease | None = None
        self._left: list[asyncio.Future[None]] = []
        """Wait for the handlers that former ownerships have left alone."""

    async def run(self) -> None:
        """Serve until `drain`.

        Raises:
            StartFailed: `on_start` failed.
            HostFailed: The host failed more often than its restart intensity allows.
            StateLost: The stream with the actor's state was deleted or replaced.
            ConfigurationError: A setting or a stream on the server cannot be used, at the start.
        """
        if not await self._prepare():
            return
        self._warn_of_unhandled_messages()
        if not await self.hooks.start():
            return
        try:
            while not self._drain.is_set():
                try:
                    await self._serve_once()
                except StateLost:
                    raise
                except (ActorError, TimeoutError, OSError) as error:
                    await self._pause(self._restarts.note(error))
        finally:
            try:
                # The handlers that were left alone may use what `on_stop` closes.
                await asyncio.gather(*self._left, return_exceptions=True)
            finally:
                await self.hooks.stop()

    def drain(self) -> None:
        """Receive no more messages, finish and commit the work in hand, and release the lease. `run` then returns.

        An `on_start` that still runs is cancelled.
        """
        self.hooks.cancel_start()
        self._drain.set()

    async def wait_idle(self, standby: bool) -> None:
        """Wait until a drain may give up the keys of this actor. After this, the caller must not await before it does.

        The actors of a process send requests to each other. A handler that still runs here may ask a sibling. If the
        sibling has given up its keys already and no other process has taken them, the request fails, and a drain would
        break the work that it is meant to finish. There are two cases:

        - Another process is in `standby` for this actor. It takes over within milliseconds, and answers the requests. So
          this host waits for its own work only, and is handed over while its siblings still work. `Serving.drain` waits
          for a moment only, and then hands over all keys but those whose messages still run.
        - No process is in standby. Nothing but this process can answer its handlers. So all draining hosts of the
          process wait until none of them has work in hand: a sibling that is idle now may be asked again in a moment.
        """
        hosts = [self] if standby else [host for host in self.siblings if host.draining]
        while True:
            busy = [host.serving for host in hosts if host.serving is not None and host.serving.busy]
            if not busy:
                return
            await asyncio.gather(*(serving.wait_idle() for serving in busy))

    @property
    def draining(self) -> bool:
        """Whether `drain` was called."""
        return self._drain.is_set()

    @property
    def standby(self) -> bool:
        """Whether another process serves the actor, and this one waits for the lease."""
        return self._lease is not None and self._lease.waiting

    @property
    def names(self) -> Names:
        """The names of the actor."""
        return self.served.names

    @property
    def holder(self) -> str:
        """The name of this process as an owner of keys."""
        return self.served.holder

    @property
    def failure(self) -> str:
        """The failure after which the host begins again; empty if there was none since it served last."""
        return self._restarts.failure

    @property
    def problems(self) -> list[str]:
        """Why the actor is not ready; empty if it serves, is in standby, or is starting without a failure."""
        refused = self.refusals(self.name)
        if self.failure and not self.ready.is_set() and not self.standby:
            return [self.failure, *refused]
        return refused

    @property
    def warnings(self) -> list[str]:
        """What does not work although the actor serves: reactions that wait, records that are unreadable, and a wrong clock."""
        clock = self.served.connection.clock_fault
        return [*([clock] if clock else []), *(self._serving.warnings if self._serving is not None else [])]

    @property
    def serving(self) -> Serving | None:
        """The parts that run during the current ownership; None in standby."""
        return self._serving

    def crashed(self, error: BaseException) -> None:
        """Report the failure of a part. The host ends its ownership and starts another one."""
        if isinstance(error, ActorError):
            logger.error("%s: a part failed: %s", self.name, error)
        else:
            log_fault(logger, "%s: a part failed: %s", self.name, error_text(error), error=error)
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(error)

    def exit(self, error: BaseException) -> None:
        """Have the process end, because code of the application raised `SystemExit` or `KeyboardInterrupt`."""
        logger.warning(
            "%s: the code of the actor raised %s: the process drains and ends", self.name, type(error).__name__
        )
        self.on_exit(error)

    def _summary(self) -> str:
        """Return what the actor does, for the log: ``serves 1 query and 2 commands, reacts to 2 events``."""
        handlers = self.served.actor.handlers
        counts = (len(handlers.queries), "query", "queries"), (len(handlers.commands), "command", "commands")
        served = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
        events = len(handlers.reactions)
        parts = [f"serves {' and '.join(served)}"] if served else []
        parts += [f"reacts to {events} event{'s' * (events != 1)}"] if events else []
        return ", ".join(parts) or "has no handlers"

    def _warn_of_unhandled_messages(self) -> None:
        actor = type(self.served.actor)
        for contract in actor.handlers.unhandled(self.name, actor.__module__):
            text, module = "%s: no handler for the %s %s of %s", contract.type.__module__
            logger.warning(text, self.name, contract.op, contract.type.__name__, module)

    async def _prepare(self) -> bool:
        """Create the streams, and wait until those of all siblings exist. Return False if the host drains before."""
        try:
            while not self._drain.is_set():
                try:
                    if await self._unless_draining(self._create_streams()):
                        self._restarts.failure = ""
                        break
                except (ActorError, TimeoutError) as error:
                    if not isinstance(error, PermissionDenied) and not is_passing(error):
                        raise
                    await self._pause(self._restarts.note(error))
        finally:
            self._prepared.set()
        # The actors of a process may react to each other, in a cycle too: each finds the streams of the others.
        for sibling in self.siblings:
            await self._unless_draining(sibling._prepared.wait())
        return not self._drain.is_set()

    async def _create_streams(self) -> None:
        if self.served.keyed:
            await self.served.streams.refuse_other_domain()
        await self.served.streams.ensure()

    async def _serve_once(self) -> None:
        """Run one ownership, from standby to its end. Raises the failure that ended it, unless a drain did."""
        keyed = self.served.keyed
        lease = make_lease(self.served, "0")
        serving: Serving | None = None
        try:
            if keyed:
                self._lease = lease
                if not await self._unless_draining(acquire_in_standby(self.served, lease)):
                    return
            serving = Serving(self.served, lease if keyed else None, self.wait_idle)
            self._failure = asyncio.get_running_loop().create_future()
            if not await self._unless_draining(serving.start()):
                return
            self._serving = serving
            self._restarts.forget()
            self.ready.set()
            logger.info("%s: %s", self.name, self._summary())
            error = await self._wait_for_end(lease)
            self.ready.clear()
            if error is not None:
                raise error
            await serving.drain()
        finally:
            self.ready.clear()
            self._serving = None
            try:
                await end_ownership(self.name, serving, lease if keyed else None)
            finally:
                if serving is not None:
                    self._left = [each for each in self._left if not each.done()]
                    self._left.append(asyncio.ensure_future(serving.end_left()))

    async def _wait_for_end(self, lease: Lease) -> ActorError | TimeoutError | None:
        """Wait for the end of the ownership. Return the failure, or None for a drain."""
        assert self._failure is not None
        drain = asyncio.ensure_future(self._drain.wait())
        lost = asyncio.ensure_future(lease.lost.wait())
        try:
            await asyncio.wait({drain, lost, self._failure}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            drain.cancel()
            lost.cancel()
        if self._drain.is_set():
            return None
        if self._failure.done():
            error = self._failure.result()
            if isinstance(error, (ActorError, TimeoutError)):
                return error
            return ActorError(f"{self.name}: a part failed: {type(error).__name__}: {error_text(error)}")
        return LeaseLost(f"{self.name}: the lease was lost")

    async def _unless_draining(self, work: Coroutine[Any, Any, object]) -> bool:
        """Run `work` to its end, or cancel it as soon as the host drains. Return whether it ended."""
        task = asyncio.ensure_future(work)
        drain = asyncio.ensure_future(self._drain.wait())
        try:
            await asyncio.wait({task, drain}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
                return True
            return False
        finally:
            drain.cancel()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _pause(self, seconds: float) -> None:
        if seconds:
            await self._unless_draining(asyncio.sleep(seconds))
