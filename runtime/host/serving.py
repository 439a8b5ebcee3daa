"""What a host runs while it owns its keys: endpoints, reactions, relay and discovery, begun and ended in order."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from runtime.actor.metadata import endpoint_metadata, service_metadata
from runtime.client.bus import Bus
from runtime.errors import ActorError, ConfigurationError, PublishError
from runtime.intake.commands import CommandEndpoint
from runtime.intake.consumers import Consumers
from runtime.intake.context import Context
from runtime.intake.queries import QueryEndpoint
from runtime.nats.connection import Subscription
from runtime.nats.lease import Lease
from runtime.nats.micro import Endpoint, MicroService
from runtime.storage.index import Indexes
from runtime.storage.journal import Journal
from runtime.storage.relay import Relay
from runtime.storage.state import States
from runtime.turns.served import Served
from runtime.turns.turn import Turns
from runtime.turns.workers import Workers
from runtime.wire.subjects import QUEUE, token_key

logger = logging.getLogger("actorloom.host")

_TICK = 5.0
"""Seconds between looks at idle keys, at the streams and consumers, and at the relay's checkpoint."""
_UNROUTE = 0.5
"""Seconds that the server has to say that it routes nothing here any more, where keys were lost."""
_DRAIN = 20.0
"""Seconds that a drain may take before what is unfinished is left to the next owner."""


class Serving:
    """All that exists while a host owns its keys: made by `begin`, in order, and ended the other way round."""

    def __init__(self, served: Served, lease: Lease | None, wait_idle: Callable[[], Awaitable[None]]) -> None:
        self.served = served
        self._wait_idle = wait_idle
        bus = Bus(served.connection, served.tracer, namespace=served.namespace, timeout=served.options.timeout)
        actor = served.actor
        owns = lease.held if lease is not None else lambda: True
        self.relay = Relay(served.jetstream, served.names, served.tracer, owns)
        states = States(served.name, actor.state_type, actor.state_version, actor.upgrades)
        self.journal = Journal(served.jetstream, served.names, states, served.options, self.relay.checkpoint.mark_done)
        self.indexes = Indexes(served.name, actor.indexes, self._states) if actor.indexes else None
        if self.indexes is not None:
            self.journal.on_change = self.indexes.update
        self.turns = Turns(served, self.journal, self.relay, bus, self.indexes, owns)
        self.workers = Workers(served.options.concurrency, served.crashed)
        """They run the queries."""
        context = Context(served, bus, self.turns, self.workers, self.indexes)
        self.endpoints: list[QueryEndpoint | CommandEndpoint] = [
            *(QueryEndpoint(context, handler) for handler in actor.handlers.queries.values()),
            *(CommandEndpoint(context, handler) for handler in actor.handlers.commands.values()),
        ]
        self.consumers = Consumers(served, self.turns, self.relay.checkpoint.mark_done)
        self.reactions = self.consumers.reactions
        self._subscriptions: list[Subscription] = []
        self._service: MicroService | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._checkpoint_lease = lease

    async def begin(self) -> None:
        """Catch up, and open for messages."""
        served = self.served
        await served.streams.ensure()
        if served.keyed:
            left = await self.relay.recover()
            if left:
                logger.info("%s: published what %d turns of a former owner had left", served.name, left)
        else:
            self._spawn(self._become_checkpoint_owner())
        if self.indexes is not None:
            await self.indexes.rebuild(served.jetstream, served.names, self.journal)
        for endpoint in self.endpoints:
            subscription = await served.connection.subscribe(endpoint.subject, endpoint.receive, queue=QUEUE)
            self._subscriptions.append(subscription)
        await self.consumers.start()
        await served.connection.flush()
        for subscription in self._subscriptions:
            if subscription.error is not None:
                raise subscription.error
        self._service = self._micro_service()
        await self._service.start()
        self._spawn(self._tick())

    @property
    def busy(self) -> bool:
        """Whether anything is in hand."""
        return self.workers.busy or self.turns.busy

    async def wait_idle(self) -> None:
        """Finish what is in hand; it may ask for more in this process."""
        await self.workers.wait_idle()
        await self.turns.drain()

    async def drain(self) -> None:
        """Take no more, finish what is in hand, publish what is committed."""
        served = self.served
        await self.consumers.stop()
        if self._service is not None:
            self._service.stop()
        try:
            async with asyncio.timeout(_DRAIN):
                await self._finish()
                await self.relay.wait_idle()
                await self.consumers.save_positions()
                await self.relay.save()
                await served.connection.flush()
        except (TimeoutError, PublishError) as error:
            logger.warning("%s: the drain was cut short: %s", served.name, error)

    async def end(self) -> None:
        """Let go of everything; what is unfinished is redelivered or published by the next owner."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        # Drained, so that who was routed here already is told, and need not wait for a time-out.
        await asyncio.gather(*(subscription.drain(_UNROUTE) for subscription in self._subscriptions))
        await self.consumers.stop()
        if self._service is not None:
            self._service.stop()
        self.relay.stop()
        await self.turns.close()
        await self.workers.close()
        if self._checkpoint_lease is not None and not self.served.keyed:
            await self._checkpoint_lease.release()

    async def _finish(self) -> None:
        """Take no more but what the handlers that still run in this process ask for: nobody else may be there to answer them."""
        served = self.served
        # In the place of what loopback has put there, which ends with the subscription.
        near = [served.connection.serve_in_process(each.subject, each.receive) for each in self.endpoints]
        try:
            for subscription in self._subscriptions:
                await subscription.drain()
            await self._wait_idle()
        finally:
            for leave in near:
                leave()

    async def _states(self, tokens: list[str]) -> list[Any]:
        async def state(token: str) -> Any:
            entry = self.turns.keys.use(token_key(token))
            entry.queries += 1
            try:
                await self.turns.keys.ensure_loaded(entry)
                return entry.state
            finally:
                entry.queries -= 1

        return list(await asyncio.gather(*(state(token) for token in tokens)))

    def _micro_service(self) -> MicroService:
        served = self.served
        endpoints: list[Endpoint] = []
        for each in self.endpoints:
            endpoint = Endpoint(each.handler.contract.name, each.subject, QUEUE, endpoint_metadata(each.handler))
            endpoint.stats = each.stats
            endpoints.append(endpoint)
        described = (served.actor.__doc__ or "").strip().partition("\n")[0]
        return MicroService(
            served.connection,
            served.name,
            served.actor.version,
            described,
            metadata=service_metadata(type(served.actor), served.namespace),
            endpoints=endpoints,
        )

    async def _become_checkpoint_owner(self) -> None:
        """Among the processes of an actor without state, one looks after what a crashed one left unpublished."""
        lease = self._checkpoint_lease = make_lease(self.served, "relay")
        await lease.acquire()
        await self.relay.recover()

    async def _tick(self) -> None:
        while True:
            await self.consumers.wait_for_check(_TICK)
            if not self.turns.owns():
                continue  # paused, and about to be told: what it knows is not to be noted
            self.turns.keys.evict(self.served.options.idle)
            try:
                await self.served.streams.check()
                await self.consumers.check()
                await self.relay.sweep()
            except ConfigurationError:
                raise
            except (ActorError, TimeoutError) as error:
                logger.warning("%s: the checkpoint could not be saved: %s", self.served.name, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background_ended)

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.served.crashed(error)


def make_lease(served: Served, partition: str) -> Lease:
    """Return the lease, not yet acquired, of one part of an actor's keys or duties."""
    return Lease(
        served.jetstream,
        bucket=f"{served.names.stream_prefix}leases",
        key=f"{served.name}.{partition}",
        holder=served.holder,
        ttl=served.lease_ttl,
        replicas=served.replicas,
    )
