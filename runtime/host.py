"""The host of one actor type: owns its lease, streams, endpoints and subscriptions from start to drain.

A host is in standby until it has the lease of its keys; then it catches up (relay, indexes) and serves. What it loses or
what crashes takes it back to standby, within an intensity limit; past that it fails, and the process with it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

import msgspec

from .actor import Actor
from .bus import Bus
from .codec import schema
from .dispatch import Dispatcher
from .errors import ActorError, PublishError
from .handler import Handler
from .index import Indexes
from .journal import Journal
from .message import declared
from .nats.connection import Connection, Subscription
from .nats.jetstream import JetStream
from .nats.lease import Lease
from .nats.puller import Puller
from .nats.service import Endpoint, MicroService
from .nats.streams import SECOND, ConsumerConfig, StreamConfig
from .options import Options
from .reaction import Reactions, Timers, event_subject
from .relay import Relay
from .subject import QUEUE, Names
from .tracing import Tracing
from .turn import Turns

log = logging.getLogger("actorloom.host")

DAY = 86_400.0
EVENTS_MAX_AGE = 30 * DAY
"""Seconds for which events are kept."""
DUPLICATE_WINDOW = 120.0
"""Seconds for which the server itself drops a message of a known id; later repetitions are the receivers' to notice."""
RECORDS_KEPT = 2
"""Records kept per key: the newest is the truth, the one before it is for people."""

_RESTARTS, _WITHIN = 5, 60.0
"""A host that fails more often than this within so many seconds is given up."""

_TICK = 5.0
_DRAIN = 20.0


class HostFailed(ActorError):
    """A host failed more often than its restart intensity allows."""


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
        self.actor_type = actor
        self.name = actor.name
        self.connection = connection
        self.options = options or actor.options
        self.names = Names(actor.name, namespace)
        self.jetstream = JetStream(connection)
        self.ready = asyncio.Event()
        """Set while it serves."""
        self.standby = False
        self._tracer = tracing.service(actor.name, version=actor.version, namespace=namespace)
        self._namespace = namespace
        self._holder = holder
        self._lease_ttl = lease_ttl
        self._replicas = replicas
        self._actor: Actor[Any] = actor()
        self._keyed = actor.state_type is not None
        self._drain = asyncio.Event()
        self._broken: asyncio.Future[BaseException] | None = None
        self._restarts: deque[float] = deque(maxlen=_RESTARTS)
        self._serving: _Serving | None = None

    async def run(self) -> None:
        """Serve until `drain`. Raises `HostFailed` past the restart intensity, and what a wrong configuration raises."""
        await self._ensure_streams()
        await self._actor.on_start()
        try:
            while not self._drain.is_set():
                try:
                    await self._serve_once()
                except (ActorError, TimeoutError, OSError) as error:
                    await self._failed(error)
        finally:
            await self._actor.on_stop()

    def drain(self) -> None:
        """Stop: take no more, finish what is in hand, commit, answer, give back the lease. `run` then ends."""
        self._drain.set()

    @property
    def serving(self) -> "_Serving | None":
        """What runs while this process is the owner; None in standby."""
        return self._serving

    async def _serve_once(self) -> None:
        """One ownership, from the lease to its loss or the drain."""
        lease = self._lease("0")
        if self._keyed:
            self.standby = True
            if not await self._unless_draining(lease.acquire()):
                return
            self.standby = False
        serving = _Serving(self, lease if self._keyed else None)
        self._broken = asyncio.get_running_loop().create_future()
        try:
            await serving.begin()
            self._serving = serving
            self.ready.set()
            log.info("%s: serving %d operations", self.name, len(serving.dispatcher.endpoints))
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
            if self._keyed:
                await lease.release()

    async def _wait_for_end(self, lease: Lease) -> BaseException | None:
        assert self._broken is not None
        drain = asyncio.ensure_future(self._drain.wait())
        lost = asyncio.ensure_future(lease.lost.wait())
        try:
            await asyncio.wait({drain, lost, self._broken}, return_when=asyncio.FIRST_COMPLETED)
            if self._drain.is_set():
                return None
            if self._broken.done():
                return self._broken.result()
            return ActorError(f"{self.name}: the lease was lost")
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
        log.warning("%s: back to standby: %s", self.name, error)
        if len(self._restarts) == _RESTARTS and now - self._restarts[0] < _WITHIN:
            raise HostFailed(
                f"{self.name} failed {_RESTARTS + 1} times within {_WITHIN:.0f} s, last: {error}"
            ) from error
        self._restarts.append(now)
        await self._unless_draining(asyncio.sleep(min(0.1 * 2 ** len(self._restarts), 2.0)))

    def crashed(self, error: BaseException) -> None:
        """Told of a part that failed: the host goes back to standby and begins anew."""
        log.error("%s: a part failed", self.name, exc_info=error)
        if self._broken is not None and not self._broken.done():
            self._broken.set_result(error)

    def _lease(self, partition: str) -> Lease:
        bucket = f"{self.names.stream_prefix}leases"
        return Lease(
            self.jetstream, bucket=bucket, key=f"{self.name}.{partition}", holder=self._holder, ttl=self._lease_ttl
        )

    async def _ensure_streams(self) -> None:
        for config in self._streams():
            await self.jetstream.ensure_stream(config)

    def _streams(self) -> list[StreamConfig]:
        names, own = self.names, f"{self.names.prefix}{self.name}"
        turns = StreamConfig(
            name=names.turns_stream,
            subjects=tuple(f"{own}.{kind}.>" for kind in ("turn", "done", "relay", "timer", "schedule")),
            max_msgs_per_subject=RECORDS_KEPT,
            duplicate_window=int(DUPLICATE_WINDOW * SECOND),
            allow_msg_ttl=True,
            allow_msg_schedules=True,
            replicas=self._replicas,
        )
        dead = StreamConfig(name=names.dead_stream, subjects=(f"{own}.dead.>",), replicas=self._replicas)
        sources = {event.__contract__.actor for event in self.actor_type.handlers.reactions} | {self.name}
        return [turns, dead, *(self._events_stream(source) for source in sorted(sources))]

    def _events_stream(self, source: str) -> StreamConfig:
        names = Names(source, self._namespace)
        return StreamConfig(
            name=names.events_stream,
            subjects=(f"{names.prefix}{source}.event.>",),
            max_age=int(EVENTS_MAX_AGE * SECOND),
            duplicate_window=int(DUPLICATE_WINDOW * SECOND),
            replicas=self._replicas,
        )


class _Serving:
    """All that exists while a host owns its keys: made by `begin`, in order, and ended the other way round."""

    def __init__(self, host: Host, lease: Lease | None) -> None:
        self.host = host
        tracer = host._tracer
        bus = Bus(host.connection, tracer, namespace=host._namespace, timeout=host.options.timeout)
        actor = host.actor_type
        self.relay = Relay(host.jetstream, host.names, tracer)
        self.journal = Journal(
            host.jetstream, host.names, actor.state_type, actor.state_version, actor.upgrades, host.options,
            self.relay.checkpoint.account,
        )  # fmt: skip
        self.indexes = Indexes(host.name, actor.indexes, self._states) if actor.indexes else None
        self.turns = Turns(
            host._actor, host.names, self.journal, self.relay, bus, host.options, tracer, self.indexes, host.crashed
        )
        if self.indexes is not None:
            self.turns.on_change = self.indexes.update
        self.dispatcher = Dispatcher(
            host._actor, host.names, host.connection, bus, self.turns, host.options, tracer, self.indexes, host.crashed
        )
        self.reactions: list[Reactions] = []
        self._pullers: list[Puller] = []
        self._subscriptions: list[Subscription] = []
        self._service: MicroService | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._accountant = lease

    async def begin(self) -> None:
        """Catch up, and open for messages."""
        host = self.host
        if host._keyed:
            left = await self.relay.recover()
            if left:
                log.info("%s: published what %d turns of a former owner had left", host.name, left)
        else:
            self._spawn(self._become_accountant())
        if self.indexes is not None:
            await self.indexes.rebuild(host.jetstream, host.names, self.journal)
        for endpoint in self.dispatcher.endpoints:
            subscription = await host.connection.subscribe(endpoint.subject, endpoint.receive, queue=QUEUE)
            self._subscriptions.append(subscription)
        await self._start_reactions()
        await host.connection.flush()
        for subscription in self._subscriptions:
            if subscription.error is not None:
                raise subscription.error
        self._service = self._micro_service()
        await self._service.start()
        self._spawn(self._tick())

    async def drain(self) -> None:
        """Take no more, finish what is in hand, publish what is committed."""
        host = self.host
        for puller in self._pullers:
            await puller.stop()
        if self._service is not None:
            self._service.stop()
        try:
            async with asyncio.timeout(_DRAIN):
                for subscription in self._subscriptions:
                    await subscription.drain()
                await self.dispatcher.workers.quiet()
                await self.turns.quiet()
                await self.relay.quiet()
                await self.relay.save()
                await host.connection.flush()
        except (TimeoutError, PublishError) as error:
            log.warning("%s: the drain was cut short: %s", host.name, error)

    async def end(self) -> None:
        """Let go of everything; what is unfinished is redelivered or published by the next owner."""
        self.dispatcher.draining = True
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for subscription in self._subscriptions:
            subscription.unsubscribe()
        for puller in self._pullers:
            await puller.stop()
        if self._service is not None:
            self._service.stop()
        self.relay.stop()
        await self.turns.close()
        await self.dispatcher.workers.close()
        if self._accountant is not None and not self.host._keyed:
            await self._accountant.release()

    async def _states(self, tokens: list[str]) -> list[Any]:
        from .subject import token_key

        async def state(token: str) -> Any:
            entry = self.turns.key(token_key(token))
            entry.queries += 1
            try:
                await self.turns.loaded(entry)
                return entry.state
            finally:
                entry.queries -= 1

        return list(await asyncio.gather(*(state(token) for token in tokens)))

    async def _start_reactions(self) -> None:
        host = self.host
        by_stream: dict[str, list[tuple[str, str, list[Handler]]]] = {}
        for event, handlers in host.actor_type.handlers.reactions.items():
            source, name, subject = event_subject(event, host._namespace)
            by_stream.setdefault(Names(source, host._namespace).events_stream, []).append((subject, name, handlers))
        for stream, routes in by_stream.items():
            reactions = Reactions(
                self.turns, host.jetstream, host.names, host.options, host._tracer, host._keyed, stream
            )
            for subject, name, handlers in routes:
                reactions.add(subject, name, handlers)
            filters = tuple(f"{subject}.*" for subject, _, _ in routes)
            await self._pull(reactions, stream, host.name, filters)
        commands = host.actor_type.handlers.commands
        if commands:
            timers = Timers(
                self.turns, host.jetstream, host.names, host.options, host._tracer, host._keyed, host.names.turns_stream
            )
            for handler in commands.values():
                timers.add_command(handler)
            own = f"{host.names.prefix}{host.name}.timer.>"
            await self._pull(timers, host.names.turns_stream, "timers", (own,))

    async def _pull(self, reactions: Reactions, stream: str, durable: str, filters: tuple[str, ...]) -> None:
        host = self.host
        config = ConsumerConfig(
            durable=durable, filter_subjects=filters, ack_wait=30 * SECOND, max_ack_pending=max(host.options.in_hand, 1)
        )
        await host.jetstream.ensure_consumer(stream, config)
        puller = Puller(
            host.jetstream, stream, durable, reactions.deliver, limit=host.options.in_hand, exclusive=host._keyed
        )
        await puller.start()
        self.reactions.append(reactions)
        self._pullers.append(puller)

    def _micro_service(self) -> MicroService:
        host = self.host
        endpoints: list[Endpoint] = []
        for served in self.dispatcher.endpoints:
            endpoint = Endpoint(served.handler.contract.name, served.subject, QUEUE, _metadata(served.handler))
            endpoint.stats = served.stats
            endpoints.append(endpoint)
        described = (host.actor_type.__doc__ or "").strip().partition("\n")[0]
        return MicroService(
            host.connection,
            host.name,
            host.actor_type.version,
            described,
            metadata=self._service_metadata(),
            endpoints=endpoints,
        )

    def _service_metadata(self) -> dict[str, str]:
        reactions = sorted(
            f"{event.__contract__.type_name}{_where(handler)}"
            for event, handlers in self.host.actor_type.handlers.reactions.items()
            for handler in handlers
        )
        metadata = {"runtime": "actorloom", "keyed": "true" if self.host._keyed else "false"}
        if self.host._namespace:
            metadata["namespace"] = self.host._namespace
        events = {
            contract.type_name: schema(contract.type)
            for contract in declared.get(self.host.name, {}).values()
            if contract.op == "event"
        }
        if events:
            metadata["emits"] = msgspec.json.encode(events).decode()
        if reactions:
            metadata["reacts"] = msgspec.json.encode(reactions).decode()
        return metadata

    async def _become_accountant(self) -> None:
        """Among the processes of an actor without state, one looks after what a crashed one left unpublished."""
        lease = self._accountant = self.host._lease("relay")
        await lease.acquire()
        await self.relay.recover()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self.turns.evict(self.host.options.idle)
            try:
                await self.relay.sweep()
            except (ActorError, TimeoutError) as error:
                log.warning("%s: the checkpoint could not be saved: %s", self.host.name, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background_ended)

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.host.crashed(error)


def _metadata(handler: Handler) -> dict[str, str]:
    contract = handler.contract
    metadata = {
        "op": contract.op,
        "request": msgspec.json.encode(schema(contract.type)).decode(),
        "response": msgspec.json.encode(schema(contract.reply if contract.reply is not None else type(None))).decode(),
    }
    if handler.doc:
        metadata["description"] = handler.doc.partition("\n")[0]
    return metadata


def _where(handler: Handler) -> str:
    return f" where {msgspec.json.encode(handler.where).decode()}" if handler.where else ""
