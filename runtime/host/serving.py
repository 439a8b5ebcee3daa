"""What a host runs while it owns its keys: endpoints, reactions, relay and discovery, begun and ended in order."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from runtime.actor.metadata import endpoint_metadata, service_metadata
from runtime.client.bus import Bus
from runtime.errors import ActorError, ConfigurationError, PublishError
from runtime.intake.consumers import Subscriptions
from runtime.intake.dispatch import Dispatcher
from runtime.nats.connection import Subscription
from runtime.nats.lease import Lease
from runtime.nats.micro import Endpoint, MicroService
from runtime.storage.index import Indexes
from runtime.storage.journal import Journal
from runtime.storage.relay import Relay
from runtime.turns.turn import Turns
from runtime.wire.subjects import QUEUE, token_key

if TYPE_CHECKING:
    from runtime.host.host import Host

logger = logging.getLogger("actorloom.host")

_TICK = 5.0
"""Seconds between looks at idle keys, at the streams and consumers, and at the relay's checkpoint."""
_UNROUTE = 0.5
"""Seconds that the server has to say that it routes nothing here any more, where keys were lost."""
_DRAIN = 20.0
"""Seconds that a drain may take before what is unfinished is left to the next owner."""


class Serving:
    """All that exists while a host owns its keys: made by `begin`, in order, and ended the other way round."""

    def __init__(self, host: "Host", lease: Lease | None) -> None:
        self.host = host
        tracer = host.tracer
        bus = Bus(host.connection, tracer, namespace=host.namespace, timeout=host.options.timeout)
        actor = host.actor_type
        owns = lease.held if lease is not None else lambda: True
        self.relay = Relay(host.jetstream, host.names, tracer, owns)
        self.journal = Journal(
            host.jetstream, host.names, actor.state_type, actor.state_version, actor.upgrades, host.options,
            self.relay.checkpoint.account,
        )  # fmt: skip
        self.indexes = Indexes(host.name, actor.indexes, self._states) if actor.indexes else None
        if self.indexes is not None:
            self.journal.on_change = self.indexes.update
        self.turns = Turns(
            host.actor, host.names, self.journal, self.relay, bus, host.options, tracer, self.indexes, host.crashed, owns
        )  # fmt: skip
        self.dispatcher = Dispatcher(
            host.actor, host.names, host.connection, bus, self.turns, host.options, tracer, self.indexes, host.crashed
        )
        self.pulled = Subscriptions(host, self.turns, self.relay.checkpoint.account)
        self.reactions = self.pulled.reactions
        self._subscriptions: list[Subscription] = []
        self._service: MicroService | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._accountant = lease

    async def begin(self) -> None:
        """Catch up, and open for messages."""
        host = self.host
        await host.storage.ensure()
        if host.keyed:
            left = await self.relay.recover()
            if left:
                logger.info("%s: published what %d turns of a former owner had left", host.name, left)
        else:
            self._spawn(self._become_accountant())
        if self.indexes is not None:
            await self.indexes.rebuild(host.jetstream, host.names, self.journal)
        for endpoint in self.dispatcher.endpoints:
            subscription = await host.connection.subscribe(endpoint.subject, endpoint.receive, queue=QUEUE)
            self._subscriptions.append(subscription)
        await self.pulled.start()
        await host.connection.flush()
        for subscription in self._subscriptions:
            if subscription.error is not None:
                raise subscription.error
        self._service = self._micro_service()
        await self._service.start()
        self._spawn(self._tick())

    @property
    def busy(self) -> bool:
        """Whether anything is in hand."""
        return self.dispatcher.workers.busy or self.turns.busy

    async def quiet(self) -> None:
        """Finish what is in hand; it may ask for more in this process."""
        await self.dispatcher.workers.quiet()
        await self.turns.quiet()

    async def drain(self) -> None:
        """Take no more, finish what is in hand, publish what is committed."""
        host = self.host
        await self.pulled.stop()
        if self._service is not None:
            self._service.stop()
        try:
            async with asyncio.timeout(_DRAIN):
                await self._finish()
                await self.relay.quiet()
                await self.pulled.rest()
                await self.relay.save()
                await host.connection.flush()
        except (TimeoutError, PublishError) as error:
            logger.warning("%s: the drain was cut short: %s", host.name, error)

    async def end(self) -> None:
        """Let go of everything; what is unfinished is redelivered or published by the next owner."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        # Drained, so that who was routed here already is told, and need not wait for a time-out.
        await asyncio.gather(*(subscription.drain(_UNROUTE) for subscription in self._subscriptions))
        await self.pulled.stop()
        if self._service is not None:
            self._service.stop()
        self.relay.stop()
        await self.turns.close()
        await self.dispatcher.workers.close()
        if self._accountant is not None and not self.host.keyed:
            await self._accountant.release()

    async def _finish(self) -> None:
        """Take no more but what the handlers that still run in this process ask for: nobody else may be there to answer them."""
        host = self.host
        # In the place of what loopback has put there, which ends with the subscription.
        near = [host.connection.serve_near(each.subject, each.receive) for each in self.dispatcher.endpoints]
        try:
            for subscription in self._subscriptions:
                await subscription.drain()
            await host.quiet()
        finally:
            for leave in near:
                leave()

    async def _states(self, tokens: list[str]) -> list[Any]:
        async def state(token: str) -> Any:
            entry = self.turns.keys.use(token_key(token))
            entry.queries += 1
            try:
                await self.turns.keys.loaded(entry)
                return entry.state
            finally:
                entry.queries -= 1

        return list(await asyncio.gather(*(state(token) for token in tokens)))

    def _micro_service(self) -> MicroService:
        host = self.host
        endpoints: list[Endpoint] = []
        for served in self.dispatcher.endpoints:
            endpoint = Endpoint(served.handler.contract.name, served.subject, QUEUE, endpoint_metadata(served.handler))
            endpoint.stats = served.stats
            endpoints.append(endpoint)
        described = (host.actor_type.__doc__ or "").strip().partition("\n")[0]
        return MicroService(
            host.connection,
            host.name,
            host.actor_type.version,
            described,
            metadata=service_metadata(host.actor_type, host.namespace),
            endpoints=endpoints,
        )

    async def _become_accountant(self) -> None:
        """Among the processes of an actor without state, one looks after what a crashed one left unpublished."""
        lease = self._accountant = self.host.lease("relay")
        await lease.acquire()
        await self.relay.recover()

    async def _tick(self) -> None:
        while True:
            await self.pulled.doubted(_TICK)
            if not self.turns.owns():
                continue  # paused, and about to be told: what it knows is not to be noted
            self.turns.keys.evict(self.host.options.idle)
            try:
                await self.host.storage.check()
                await self.pulled.check()
                await self.relay.sweep()
            except ConfigurationError:
                raise
            except (ActorError, TimeoutError) as error:
                logger.warning("%s: the checkpoint could not be saved: %s", self.host.name, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background_ended)

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.host.crashed(error)
