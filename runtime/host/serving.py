"""All parts that run while a host serves its actor, and the order in which they start, drain and close.

The parts depend on each other, so their order is fixed. **Start**:

1. The streams, which all other parts read and write.
2. The relay publishes the events that crashed owners committed and did not publish. A new turn of the same key must not
   publish its events before them. (An actor without state has no order of keys: one of its processes does this in the
   background, as soon as it holds the checkpoint lease.)
3. The indexes, rebuilt from the newest records, so that the first list query is complete.
4. The endpoints, which receive queries and commands.
5. The consumers, which receive events and timers. Their handlers may send requests to this actor, so they follow.
6. Discovery, which announces endpoints that work.

**Drain** goes from the outside to the inside. Nothing is cut off that a later step still needs:

1. The consumers stop pulling, and discovery stops announcing this process.
2. The endpoints leave NATS. Requests that the server has already routed here still run. Later ones go to another
   process, or NATS answers at once that no process serves them. Handlers of this process can still ask this actor,
   within the process (ADR 010).
3. Everything in hand runs to its end. `Host._wait_idle` explains why hosts may wait for each other here. If another process
   waits for the keys, it gets them after a moment, and the keys that are still busy later: see `runtime.host.drain`. Steps 5
   and 6 then precede the hand-over.
4. The relay publishes the events of the last turns.
5. The consumer positions are saved. They show the next owner that this process did not die, perhaps of an event
   (ADR 012).
6. The checkpoint of the relay is saved, so that the next owner has few records to read (ADR 006).
7. A flush ensures that the server has received all of this before the host releases the lease.

A drain may take 20 s. **Close** follows every drain, failed start, failure and lost lease. It cancels whatever is left, waits
one second for handlers, and may take 5 s (`runtime.host.ending`). The lease is released then, whatever a handler does. The next
owner finds unfinished work in JetStream.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from runtime.actor.call import Lists
from runtime.client.bus import Bus
from runtime.host.announcement import Load, announcement
from runtime.host.checks import Checks
from runtime.host.drain import Drain
from runtime.host.ending import release
from runtime.host.handover import hold
from runtime.intake.cancels import CancelEndpoint
from runtime.intake.commands import CommandEndpoint
from runtime.intake.consumers import Consumers
from runtime.intake.context import Context
from runtime.intake.endpoint import Endpoint
from runtime.intake.queries import QueryEndpoint
from runtime.nats.connection import Subscription
from runtime.nats.lease import Lease
from runtime.nats.micro import MicroService
from runtime.storage.fence import FENCED_FOR, Fence
from runtime.storage.index import Indexes
from runtime.storage.journal import Journal
from runtime.storage.listing import Declared
from runtime.storage.recurring import reconcile, recurring_commands
from runtime.storage.relay import Relay
from runtime.storage.state import States
from runtime.storage.streams import StreamChanged
from runtime.storage.unreadable import UnreadableRecords
from runtime.turns.copies import Copies, Successor
from runtime.turns.latest import latest_states
from runtime.turns.served import Served
from runtime.turns.turn import Turns
from runtime.turns.workers import Workers
from runtime.wire.server_clock import ServerClock
from runtime.wire.subjects import QUEUE

if TYPE_CHECKING:
    from runtime.intake.handed_on import HandedOnEvents
    from runtime.intake.list_endpoint import ListEndpoint
    from runtime.intake.router import Router

logger = logging.getLogger("actorloom.host")

_UNSUBSCRIBE_TIMEOUT = 0.5
"""Seconds that the server may take, at the close, to confirm that it routes no more requests here."""


class Serving:
    """The parts of one ownership: created together, started in order, drained or not, and closed.

    Args:
        served: The actor, its names and clients.
        lease: The lease of the keys, held; None for an actor without state.
        wait_idle: Waits until a drain may give up the keys: `Host._wait_idle`.
        lists: The lists over all partitions of the actor; None if it has one, or declares no index.
        router: Receives the requests of a partitioned actor; None for an actor that is one whole.
    """

    def __init__(
        self,
        served: Served,
        lease: Lease | None,
        wait_idle: Callable[[bool], Awaitable[None]],
        lists: Lists | None = None,
        router: "Router | None" = None,
    ) -> None:
        self.served = served
        self._lease = lease
        bus = Bus(served.connection, served.tracer, namespace=served.namespace, timeout=served.options.timeout)
        actor = served.actor
        owns = lease.held if lease is not None else lambda: True
        self._unreadable = unreadable = UnreadableRecords(served.name)
        self.relay = Relay(
            served.jetstream, served.names, served.tracer, owns, unreadable, served.bursts, shared=not served.keyed
        )
        self.fence = Fence(_fenced_for(lease, served.connection.clock))
        states = States(served.name, actor.state_type, actor.state_version, actor.upgrades)
        mark_done = self.relay.checkpoint.mark_done
        self.journal = Journal(
            served.jetstream, served.names, states, served.options, mark_done, unreadable, self.fence
        )
        self.indexes: Indexes | None = None
        if actor.indexes:
            self.indexes = Indexes(Declared(served.name, actor.indexes, actor.scales), self._states)
        if self.indexes is not None:
            self.journal.on_change = self.indexes.update
        self.journal.on_loss = self._on_loss
        lists = lists or self.indexes
        self.turns = Turns(served, self.journal, self.relay, bus, lists, owns)
        self.lists: ListEndpoint | None = None
        """The lists of a partition, for those over all partitions."""
        self.relay.foreign.learn = Copies(self.turns.keys, self.indexes).learn
        self.workers = Workers(served.options.concurrency, served.crashed, served.overruns())
        """They run the queries; commands and events run in the turns."""
        context = Context(served, bus, self.turns, self.workers, lists)
        self.endpoints: list[Endpoint] = [
            *(QueryEndpoint(context, handler) for handler in actor.handlers.queries.values()),
            *(CommandEndpoint(context, handler) for handler in actor.handlers.commands.values()),
            *(CancelEndpoint(context, handler) for handler in actor.handlers.commands.values() if handler.accept),
        ]
        self._by_subject = {each.subject: each for each in self.endpoints}
        if router is not None:
            router.share_statistics(self.endpoints)
        checkpoint = self.relay.checkpoint
        self.consumers = Consumers(served, self.turns, mark_done, lambda: checkpoint.tracking)
        self.handed_on: HandedOnEvents | None = None
        """Receives the events of other partitions; None if the keys are one whole."""
        if served.names.partition.total > 1:
            self._make_exchange()
        self._drain = Drain(
            served, lease, self.endpoints, self.turns, self.workers, self.relay,
            stop=self._stop, save=self._save, fence=self.fence, follow=self._follow_successor,
            wait_idle=wait_idle, router=router,
        )  # fmt: skip
        self._subscriptions: list[Subscription] = []
        self._discovery: MicroService | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._checkpoint_lease: Lease | None = None
        self._checks = Checks(served, self.turns, self.consumers, self.relay, self.fence)
        self._checking: list[asyncio.Task[None]] = []
        """The tasks of the checks. They end before the keys are given up."""

    def _make_exchange(self) -> None:
        """Have the parts through which partitions help each other. An actor that is one whole starts without these modules."""
        from runtime.intake.handed_on import HandedOnEvents
        from runtime.intake.list_endpoint import ListEndpoint

        self.handed_on = HandedOnEvents(self.served, self.turns, self.consumers.ownership)
        if self.indexes is not None:
            self.lists = ListEndpoint(self.served, self.turns, self.indexes)

    async def start(self) -> None:
        """Start all parts, in the order above. Raises the first error; the caller then calls `close`."""
        served = self.served
        await served.streams.ensure()
        if served.keyed:
            count = await self.relay.recover()
            if count:
                logger.info("%s: published the events that former owners left, records: %d", served.label, count)
            await self._reconcile()
        else:
            self._spawn(self._own_checkpoint(await served.streams.used()))
        if self.indexes is not None:
            await self.indexes.rebuild(served.jetstream, served.names, self.journal)
        following = hold(served, self._lease, self.turns, self.indexes)
        for endpoint in self.endpoints:
            subscription = await served.connection.subscribe(endpoint.own_subject, endpoint.receive, queue=QUEUE)
            self._subscriptions.append(subscription)
        if (events := self.handed_on) is not None:
            # Not in the queue group: a former owner that is paused must not be asked in place of this one.
            subscription = await served.connection.subscribe(served.names.hand_on(), events.receive)
            self._subscriptions.append(subscription)
        if self.lists is not None:
            self._subscriptions.append(await self.lists.start())
        await self.consumers.start()
        if following is not None:
            self._spawn(following())
        if served.names.partition.total == 1:
            self._discovery = announcement(
                served, ((each.handler, each.stats) for each in self.endpoints if each.announced), lambda: self.load
            )
            await self._discovery.start()
        await served.connection.flush()  # From here on, a refused subscription is known.
        for subscription in self._subscriptions:
            if subscription.error is not None:
                raise subscription.error
        self._checking.append(self._spawn(self._checks.run()))
        if served.keyed:
            served.connection.on_reconnect.append(self._checks.reconnected.set)
            self._checking.append(self._spawn(self._checks.follow()))

    @property
    def warnings(self) -> list[str]:
        """What does not work although the actor serves: reactions without a stream, and unreadable records."""
        return [*self.consumers.warnings, *self.relay.parked.warnings, *self._unreadable.warnings]

    def endpoint(self, subject: str, inside: bool) -> Endpoint | None:
        """Return the endpoint of a plain subject, if it receives requests of this process (`inside`), or of others."""
        if self._drain.begun and not (inside and self._drain.in_process):
            return None
        return self._by_subject[subject]

    @property
    def busy(self) -> bool:
        """Whether any message is in hand."""
        return self.workers.busy or self.turns.busy

    @property
    def load(self) -> Load:
        """The messages that are in memory, for discovery."""
        return Load(self.turns.admission.waiting + len(self.workers), self.turns.blocked)

    @property
    def settled(self) -> bool:
        """Whether no commit of this ownership is under way, or has an unknown outcome. It is for good after `close`."""
        return self.fence.settled

    async def wait_idle(self) -> None:
        """Wait until the messages in hand are finished. Handlers elsewhere in this process may then send more."""
        await self._drain.wait_own()

    async def drain(self) -> None:
        """Receive no more messages, finish those in hand, and save the state for the next owner, in the order above."""
        if self.handed_on is not None:
            self.handed_on.leaving = True
        await self._drain.run(self._subscriptions)

    async def close(self) -> None:
        """End all parts, and abandon the messages in hand. The next owner finds them in JetStream.

        The close waits `CLOSE_GRACE` seconds for handlers. `end_left` waits for the others, when the lease is released.
        """
        try:
            for task in self._background:
                task.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)
            # A request that was already routed here is answered with `NotDelivered` at once, and does not time out.
            await asyncio.gather(*(subscription.drain(_UNSUBSCRIBE_TIMEOUT) for subscription in self._subscriptions))
            if self.lists is not None:
                await self.lists.stop()
            await self._stop()
            self.relay.stop()
        finally:
            await asyncio.gather(self.turns.close(), self.workers.close(), self._drain.end())
            await self.consumers.end()
            self.served.bursts.flush()
            if self._checkpoint_lease is not None:
                await release(self._checkpoint_lease, self.settled)

    async def end_left(self) -> None:
        """Give the handlers that `close` has left alone some time to clean up. Their calls have no effect any more."""
        await asyncio.gather(self.turns.end_left(), self.workers.end_left())

    async def _stop(self) -> None:
        """Receive no more events, and announce this process no more."""
        await self.consumers.stop()
        if self._discovery is not None:
            self._discovery.stop()

    async def _save(self) -> None:
        """Store what a next owner reads at its start: the positions of the consumers, and the checkpoint of the relay."""
        if not self.turns.owns():
            return  # The next owner has stored its own.
        for task in self._checking:
            task.cancel()
        await self.consumers.save_positions()
        await self.relay.save()

    async def _states(self, tokens: list[str]) -> list[Any]:
        """Return the committed state of each key token, for a page of a list; None for an unreadable record."""
        codec = self.served.actor.state_codec
        assert codec is not None, "an actor with indexes has a state"
        return [codec.copy(state) for state in await latest_states(self.turns, tokens)]

    def _follow_successor(self, follow: bool) -> None:
        """Make lists contain what a successor stores from now on, or no longer do so."""
        indexes = self.indexes
        if indexes is None:
            return
        indexes.refresh = None
        if follow:
            served, keys, after = self.served, self.turns.keys, self.relay.checkpoint.last
            indexes.refresh = Successor(served.jetstream, served.names, keys, self.journal, indexes, after).refresh

    def _on_loss(self) -> None:
        """Forget the copies of a stream that has lost messages, and begin again."""
        self.turns.keys.forget_all()
        self.served.crashed(StreamChanged(f"stream {self.served.names.turns_stream} has lost messages"))

    async def _own_checkpoint(self, used: bool) -> None:
        """Wait for the checkpoint lease, and publish the events that crashed processes left. For actors without state.

        Processes of such an actor share its turns stream. One of them owns the relay's checkpoint: it publishes the
        events that the others leave when they crash, and saves how far all is published (ADR 006). A process that has lost
        the lease waits for it again.

        Args:
            used: Whether the turns stream had a message before this ownership, which stores some itself.
        """

        async def used_before() -> bool:
            return used

        first = used_before
        while True:
            lease = self._checkpoint_lease = make_lease(self.served, "relay", first)
            await lease.acquire()
            await self.relay.recover()
            await self._reconcile()
            await lease.lost.wait()
            self.relay.checkpoint.end()
            first = None

    async def _reconcile(self) -> None:
        """Store the schedules of the recurring commands."""
        served = self.served
        commands = recurring_commands(served.actor.handlers, served.options, served.names)
        await reconcile(served.jetstream, served.names, commands)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` until the close. Its failure is a failure of the ownership."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background_ended)
        return task

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.served.crashed(error)


def _fenced_for(lease: Lease | None, clock: ServerClock) -> float:
    """Return the seconds for which a former owner of the keys may still write."""
    if lease is None or (lease.clean and not lease.unclean_at):
        return 0.0
    return FENCED_FOR - (clock.now() - lease.unclean_at if lease.clean else 0.0)


def make_lease(served: Served, part: str, used: Callable[[], Awaitable[bool]] | None = None) -> Lease:
    """Return a lease, not yet acquired, for one part of an actor: its keys ("0") or its checkpoint ("relay").

    `used` is an argument of `Lease`. By default, the turns stream tells whether the actor had an owner.
    """
    return Lease(
        served.jetstream,
        bucket=served.names.lease_bucket,
        key=f"{served.name}.{part}",
        holder=served.holder,
        ttl=served.lease_ttl,
        replicas=served.replicas,
        used=used or served.streams.used,
    )
