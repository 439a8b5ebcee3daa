"""The host of one actor type in one process: its start, the owners of its partitions, and its end.

A host calls `on_start` of its actor, and then has an `Owner` for each partition of its keys; for an actor that is one whole,
or has no state, a single one. It ends when all of them have drained, or the first one has failed for good.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from runtime.actor.base import Actor
from runtime.bounds import Bounded, LeaseTtl, Replicas
from runtime.client.bus import Bus
from runtime.errors import ActorError, ConfigurationError, DeclarationError
from runtime.host.contract_check import ContractCheck
from runtime.host.gauges import add_gauges, add_lag_gauge
from runtime.host.hooks import Hooks
from runtime.host.layout_checks import LayoutChecks
from runtime.host.owner import Owner, Phase, run_unless
from runtime.host.restarts import Restarts
from runtime.host.serving import Serving
from runtime.host.summary import summary, warn_of_unhandled_messages
from runtime.intake.endpoint import Endpoint
from runtime.nats.connection import Connection, PermissionDenied
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import StreamConflict, is_passing
from runtime.options import Options
from runtime.storage.recurring import recurring_commands
from runtime.storage.streams import Streams
from runtime.telemetry import Tracing
from runtime.telemetry.bursts import Bursts
from runtime.turns.served import Served
from runtime.wire.buckets import Partition
from runtime.wire.subjects import Names

if TYPE_CHECKING:
    from runtime.host.sharing import Sharing
    from runtime.intake.list_endpoint import ListEndpoint

logger = logging.getLogger("actorloom.host")

_STARTS = 16
"""Partitions that start at the same time. Each reads its records, and asks the server for its streams and consumers."""


class Deployment(Bounded, frozen=True, kw_only=True):
    """The settings that all hosts of a process share."""

    namespace: str = ""
    """The prefix of every subject and stream; empty for none."""
    lease_ttl: LeaseTtl = 4.0
    """Seconds after which another process takes over from an owner that died."""
    replicas: Replicas = 1
    """Copies of each stream in a cluster."""
    allow_breaking: bool = False
    """Whether an actor starts although its contract has changed in a way that breaks others."""


class Surroundings(NamedTuple):
    """What a process shares among the actors that it serves."""

    connection: Connection
    tracing: Tracing
    deployment: Deployment


_SURROUNDINGS: WeakKeyDictionary[Actor[Any], Surroundings] = WeakKeyDictionary()


def served_with(actor: Actor[Any]) -> Surroundings:
    """Return the surroundings of an actor that this process serves.

    Args:
        actor: The actor itself, ``self`` in `on_start`.

    Raises:
        DeclarationError: It is not the actor itself, or no host serves it.
    """
    found = _SURROUNDINGS.get(actor)
    if found is None:
        raise DeclarationError(
            f"this {type(actor).__name__} is not an actor that this process serves: use self in on_start"
        )
    return found


_OWNING: WeakKeyDictionary[Actor[Any], list[Callable[[], None]]] = WeakKeyDictionary()


def call_when_owning(actor: Actor[Any], callback: Callable[[], None]) -> None:
    """Have a function called each time that this process has got keys of an actor, before it serves them.

    Args:
        actor: The actor itself, ``self`` in `on_start`.
        callback: The function. It does not wait.

    Raises:
        KeyError: It is not the actor itself, or no host serves it.
    """
    _OWNING[actor].append(callback)


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
        options = options or actor.options
        if options.partitions > 1 and actor.state_type is None:
            raise ConfigurationError(
                f"{actor.name}: Options.partitions = {options.partitions}: an actor without state has no keys to divide"
            )
        names, jetstream = Names(actor.name, namespace), JetStream(connection)
        recurring_commands(actor.handlers, options, names)  # raises if a setting is invalid
        self.served = Served(
            actor=actor(),
            names=names,
            options=options,
            connection=connection,
            jetstream=jetstream,
            streams=Streams(jetstream, names, replicas, told=bool(actor.handlers.commands)),
            tracer=tracing.service(actor.name, version=actor.version, namespace=namespace),
            holder=holder,
            crashed=self.crashed,
            consumes=partial(add_lag_gauge, self),
            bursts=Bursts(),
            exit=self.exit,
            namespace=namespace,
            lease_ttl=deployment.lease_ttl,
            replicas=replicas,
        )
        """The actor as one whole."""
        make = partial(Bus, connection, self.served.tracer, namespace=namespace, timeout=options.timeout)
        Bus.provide(self.served.actor, make)
        _SURROUNDINGS[self.served.actor] = Surroundings(connection, tracing, deployment)
        _OWNING[self.served.actor] = []
        self.name = actor.name
        self.ready = asyncio.Event()
        """Set while this process serves the actor: each partition that it is to own, and at least one."""
        self.siblings: Sequence[Host] = (self,)
        """All hosts of this process, this one included."""
        self.on_exit: Callable[[BaseException], None] = lambda error: None
        """Called with the exception of a handler that asks for the end of the process."""
        self.hooks = Hooks(self.served.actor, self.exit)
        """`on_start` and `on_stop` of the actor."""
        self.refusals: Callable[[str], list[str]] = lambda actor: []
        """Returns what the server refuses to an actor of this process."""
        self._layout = LayoutChecks(self.served)
        self._contract = ContractCheck(self.served, deployment.allow_breaking)
        self.owners: list[Owner] = []
        """The owners of all partitions."""
        self._sharing = self._make_sharing() if options.partitions > 1 else None
        """The share of this process in a partitioned actor; None for an actor that is one whole."""
        lists, router = (None, None) if self._sharing is None else (self._sharing.lists, self._sharing.router)
        starting = asyncio.Semaphore(_STARTS)
        self.owners += [
            Owner(self.served, each, self._layout.check, starting, self._wait_idle, self._note, lists, router)
            for each in (Partition(options.partitions, number) for number in range(options.partitions))
        ]
        add_gauges(self)
        self._prepared = asyncio.Event()
        """Set as soon as the streams of the actor exist, or the host drains before."""
        self._drain = asyncio.Event()
        self._restarts = Restarts(actor.name)
        """The failures before the first ownership."""

    def _make_sharing(self) -> "Sharing":
        """Return the share of this process. An actor that is one whole starts without its modules."""
        from runtime.host.sharing import Sharing

        return Sharing(self.served, self.owners, self._endpoint, self._list_endpoint, self._log_summary)

    async def run(self) -> None:
        """Serve until `drain`.

        Raises:
            StartFailed: `on_start` failed.
            HostFailed: The host failed more often than its restart intensity allows.
            StateLost: The stream with the actor's state was deleted or replaced.
            ContractBroken: The contract of the actor has changed in a way that breaks others, which is not allowed.
            ConfigurationError: A setting or a stream on the server cannot be used, at the start.
        """
        if not await self._prepare():
            return
        warn_of_unhandled_messages(type(self.served.actor))
        if not await self.hooks.start():
            return
        try:
            await self._run_owners()
        finally:
            try:
                # The handlers that were left alone may use what `on_stop` closes.
                await asyncio.gather(*(owner.end_left() for owner in self.owners))
            finally:
                await self.hooks.stop()

    def drain(self) -> None:
        """Receive no more messages, finish and commit the work in hand, and release the lease. `run` then returns.

        An `on_start` that still runs is cancelled.
        """
        self.hooks.cancel_start()
        self._drain.set()
        if self._sharing is None:
            self.owners[0].drain()
        else:
            self._sharing.log.close()

    async def _wait_idle(self, owner: Owner, standby: bool) -> None:
        """Wait until a drain may give up the keys of `owner`. After this, the caller must not await before it does.

        The actors of a process send requests to each other. A handler that still runs here may ask a sibling. If the
        sibling has given up its keys already and no other process has taken them, the request fails, and a drain would
        break the work that it is meant to finish. There are two cases:

        - Another process is in `standby` for these keys. It takes over within milliseconds, and answers the requests. So
          this owner waits for its own work only, and is handed over while the others still work. `Serving.drain` waits
          for a moment only, and then hands over all keys but those whose messages still run.
        - No process is in standby. Nothing but this process can answer its handlers. So all draining owners of the
          process wait until none of them has work in hand: one that is idle now may be asked again in a moment.
        """
        owners = [owner] if standby else [each for host in self.siblings for each in host.owners if each.draining]
        while True:
            busy = [each.serving for each in owners if each.serving is not None and each.serving.busy]
            if not busy:
                return
            await asyncio.gather(*(serving.wait_idle() for serving in busy))

    @property
    def draining(self) -> bool:
        """Whether `drain` was called."""
        return self._drain.is_set()

    @property
    def standby(self) -> bool:
        """Whether other processes serve the actor, or some of its partitions, and this one waits for a lease."""
        if self._sharing is not None and not self._sharing.decided:
            return False
        waiting = (owner.standby or owner.ready or not owner.wanted for owner in self.owners)
        return not self.ready.is_set() and all(waiting)

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
        shared = self._sharing.failure if self._sharing is not None else ""
        return next(filter(None, (self._restarts.failure, *self._failures(), shared)), "")

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
        served = (text for each in self.serving for text in each.warnings)
        # One of several partitions may fail while the others are served. If there is one only, `problems` has its failure.
        failing = self._failures() if len(self.owners) > 1 and self.ready.is_set() else ()
        return [*([clock] if clock else []), *dict.fromkeys(served), *failing]

    @property
    def serving(self) -> list[Serving]:
        """The parts that run during the current ownerships."""
        return [owner.serving for owner in self.owners if owner.serving is not None]

    def _failures(self) -> list[str]:
        """Return the failure of each partition since this process served it last."""
        many = len(self.owners) > 1
        failed = ((owner.partition.number, owner.restarts.failure) for owner in self.owners)
        return [f"partition {number}: {failure}" if many else failure for number, failure in failed if failure]

    def crashed(self, error: BaseException) -> None:
        """Report the failure of a part. Each ownership ends, and another one follows."""
        for owner in self.owners:
            owner.crashed(error)

    def exit(self, error: BaseException) -> None:
        """Have the process end, because code of the application raised `SystemExit` or `KeyboardInterrupt`."""
        logger.warning(
            "%s: the code of the actor raised %s: the process drains and ends", self.name, type(error).__name__
        )
        self.on_exit(error)

    def _log_summary(self) -> None:
        logger.info("%s: %s", self.name, summary(self.served.actor.handlers))

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
        streams = self.owners[0].served.streams
        if self.served.keyed:
            await self.served.streams.refuse_other_domain()
        await self._contract.register()
        if self.served.keyed:
            await self._layout.begin()
        try:
            await streams.ensure()
        except StreamConflict as conflict:
            await self._layout.explain(conflict)

    async def _run_owners(self) -> None:
        """Run all owners until they have drained, or the first one has failed for good."""
        if self._sharing is None:
            await self.owners[0].run()
            return
        running = [asyncio.ensure_future(owner.run()) for owner in self.owners]
        running.append(asyncio.ensure_future(self._sharing.run(self._drain)))
        try:
            await asyncio.gather(*running)
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _endpoint(self, number: int, subject: str, inside: bool) -> Endpoint | None:
        """Return the endpoint of a plain subject for a partition of this process; see `Router`."""
        serving = self.owners[number].serving
        return None if serving is None else serving.endpoint(subject, inside)

    def _list_endpoint(self, number: int) -> "ListEndpoint | None":
        """Return the lists of a partition that this process owns; None if it does not."""
        serving = self.owners[number].serving
        return None if serving is None else serving.lists

    def _note(self) -> None:
        """Take note that an owner has got its keys, serves now, or no longer."""
        if any(owner.phase is Phase.STARTING for owner in self.owners):
            for callback in _OWNING[self.served.actor]:
                callback()
        wanted = [owner for owner in self.owners if owner.wanted]
        ready = bool(wanted) and all(owner.ready for owner in wanted)
        if self._sharing is None:
            if ready and not self.ready.is_set():
                self._log_summary()
        elif not self.draining:
            self._sharing.log.note_change()
        if ready:
            self.ready.set()
        else:
            self.ready.clear()

    async def _unless_draining(self, work: Coroutine[Any, Any, object]) -> bool:
        """Run `work` to its end, or cancel it as soon as the host drains. Return whether it ended."""
        return await run_unless(work, self._drain)

    async def _pause(self, seconds: float) -> None:
        if seconds:
            await self._unless_draining(asyncio.sleep(seconds))
