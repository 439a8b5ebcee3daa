"""The host of one actor type: owns its lease, streams, endpoints and subscriptions from start to drain.

A host is in standby until it has the lease of its keys; then it catches up (relay, indexes) and serves. A lost lease takes
it back to standby, and what crashes too, within an intensity limit; past that it fails, and the process with it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

from runtime.actor.base import Actor
from runtime.errors import ActorError
from runtime.host.serving import Serving, make_lease
from runtime.nats.connection import Connection
from runtime.nats.jetstream.client import JetStream
from runtime.nats.lease import Lease
from runtime.options import Options
from runtime.storage.streams import StateLost, Streams
from runtime.telemetry import Tracing
from runtime.turns.served import Served
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.host")

_RESTARTS, _WITHIN = 5, 60.0
"""A host that fails more often than this within so many seconds is given up."""

_RELIEF = 0.5
"""Seconds that a process which stands by has to say so, where a host drains. That nobody does, NATS says at once."""


class HostFailed(ActorError):
    """A host failed more often than its restart intensity allows."""


class LeaseLost(ActorError):
    """The lease of the keys was lost: to another owner, or because NATS could not be reached in time to renew it."""


class Host:
    """Serves one actor type over `connection`, which the runner owns. `run` until `drain`."""

    def __init__(
        self,
        actor: type[Actor[Any]],
        connection: Connection,
        tracing: Tracing,
        *,
        namespace: str = "",
        options: Options | None = None,
        holder: str,
        lease_ttl: float = 4.0,
        replicas: int = 1,
    ) -> None:
        names = Names(actor.name, namespace)
        jetstream = JetStream(connection)
        sources = {event.__contract__.actor for event in actor.handlers.reactions} | {actor.name}
        streams = Streams(jetstream, names, [Names(source, namespace) for source in sorted(sources)], replicas)
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
            namespace=namespace,
            lease_ttl=lease_ttl,
            replicas=replicas,
        )
        self.name = actor.name
        self.ready = asyncio.Event()
        """Set while it serves."""
        self.siblings: Sequence[Host] = (self,)
        """The hosts of this process."""
        self._drain = asyncio.Event()
        self._broken: asyncio.Future[BaseException] | None = None
        self._restarts: deque[float] = deque(maxlen=_RESTARTS)
        self._serving: Serving | None = None
        self._wanted: Lease | None = None

    async def run(self) -> None:
        """Serve until `drain`.

        Raises `HostFailed` past the restart intensity, `StateLost`, and what a wrong configuration raises.
        """
        await self.served.streams.ensure()
        await self.served.actor.on_start()
        try:
            while not self._drain.is_set():
                try:
                    await self._serve_once()
                except StateLost:
                    raise
                except LeaseLost as error:
                    # No part of this process has failed, and ending it would not mend the network; to lose a lease takes
                    # its time to live, so that it cannot go round fast either.
                    logger.warning("%s: back to standby: %s", self.name, error)
                except (ActorError, TimeoutError, OSError) as error:
                    await self._failed(error)
        finally:
            await self.served.actor.on_stop()

    def drain(self) -> None:
        """Stop: take no more, finish what is in hand, commit, answer, give back the lease. `run` then ends."""
        self._drain.set()

    async def wait_idle(self) -> None:
        """Return when nothing is in hand; the caller then lets go before it awaits anything.

        Where somebody stands by, in this host: it is handed over at once. Else in all hosts of the process that drain, since their
        handlers may ask each other and nobody else.
        """
        draining = [self] if await self._relieved() else [host for host in self.siblings if host._drain.is_set()]
        while busy := [host._serving for host in draining if host._serving is not None and host._serving.busy]:
            await asyncio.gather(*(serving.wait_idle() for serving in busy))

    @property
    def standby(self) -> bool:
        """Whether another process serves, and this one waits for it to go."""
        return self._wanted is not None and self._wanted.waiting

    @property
    def serving(self) -> "Serving | None":
        """What runs while this process is the owner; None in standby."""
        return self._serving

    async def _serve_once(self) -> None:
        """One ownership, from the lease to its loss or the drain."""
        keyed = self.served.keyed
        lease = make_lease(self.served, "0")
        if keyed:
            self._wanted = lease
            if not await self._unless_draining(self._stand_by(lease)):
                return
        serving = Serving(self.served, lease if keyed else None, self.wait_idle)
        self._broken = asyncio.get_running_loop().create_future()
        try:
            await serving.begin()
            self._serving = serving
            self.ready.set()
            logger.info("%s: serving %d operations", self.name, len(serving.endpoints))
            ended = await self._wait_for_end(lease)
            self.ready.clear()
            if ended is None:
                await serving.drain()
            else:
                raise ended
        finally:
            self.ready.clear()
            self._serving = None
            await serving.end()
            if keyed:
                await lease.release()

    async def _stand_by(self, lease: Lease) -> None:
        """Wait for the lease; an owner that drains is told meanwhile that somebody does."""

        connection, subject_of_standby = self.served.connection, self.served.names.standby()

        def tell(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            if reply.startswith(b"_"):  # an inbox, as in `MicroService`
                connection.publish(reply)

        answering = await connection.subscribe(subject_of_standby, tell)
        try:
            await lease.acquire()
        finally:
            answering.unsubscribe()

    async def _relieved(self) -> bool:
        """Whether somebody waits for the keys of this host. Actors without state have none: who else serves them does so now."""
        if not self.served.keyed:
            return False
        try:
            await self.served.connection.request(self.served.names.standby(), b"", timeout=_RELIEF)
        except (ActorError, TimeoutError):
            return False
        return True

    async def _wait_for_end(self, lease: Lease) -> BaseException | None:
        assert self._broken is not None
        drain = asyncio.ensure_future(self._drain.wait())
        lost = asyncio.ensure_future(lease.lost.wait())
        try:
            await asyncio.wait({drain, lost, self._broken}, return_when=asyncio.FIRST_COMPLETED)
            if self._drain.is_set():
                return None
            if self._broken.done():
                broken = self._broken.result()
                return (
                    broken if isinstance(broken, ActorError) else ActorError(f"{self.name}: a part failed: {broken!r}")
                )
            return LeaseLost(f"{self.name}: the lease was lost")
        finally:
            drain.cancel()
            lost.cancel()

    async def _unless_draining(self, work: Coroutine[Any, Any, None]) -> bool:
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

    async def _failed(self, error: BaseException) -> None:
        now = time.monotonic()
        logger.warning("%s: back to standby: %s", self.name, error)
        if len(self._restarts) == _RESTARTS and now - self._restarts[0] < _WITHIN:
            raise HostFailed(
                f"{self.name} failed {_RESTARTS + 1} times within {_WITHIN:.0f} s, last: {error}"
            ) from error
        self._restarts.append(now)
        await self._unless_draining(asyncio.sleep(min(0.1 * 2 ** len(self._restarts), 2.0)))

    def crashed(self, error: BaseException) -> None:
        """Told of a part that failed: the host goes back to standby and begins anew."""
        expected = isinstance(error, ActorError)
        logger.error("%s: a part failed: %s", self.name, error, exc_info=None if expected else error)
        if self._broken is not None and not self._broken.done():
            self._broken.set_result(error)
