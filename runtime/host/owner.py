"""The owner of one partition of an actor in one process: standby, ownership, restart after a failure, drain.

An actor that is one whole has one owner in each process. An owner repeats *ownerships* while its process is wanted to have
the partition, until its host drains:

1. **Standby.** The keys of a partition have one owner at a time, the holder of their lease. This waits for the lease. An actor
   without state has no keys: every process serves it, and skips this step.
2. **Serving.** A `Serving` is created. It catches up, starts to receive messages, and runs until the end of the ownership. It
   is not reused: after a failure, nothing in memory can be trusted.
3. **End.** A drain finishes the work in hand first. After a lost lease or a failure, the work in hand is abandoned; the
   next owner gets it again from JetStream. In all cases the lease is released last.

`runtime.host.restarts` decides what follows a failure.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from runtime.actor.call import Lists
from runtime.errors import ActorError
from runtime.faults import error_text, log_fault
from runtime.host.ending import end_ownership
from runtime.host.restarts import LeaseLost, Restarts
from runtime.host.serving import Serving, make_lease
from runtime.host.standby import acquire_in_standby
from runtime.nats.lease import Lease
from runtime.storage.layout import WrongLayout
from runtime.storage.streams import StateLost, Streams
from runtime.telemetry.bursts import Bursts
from runtime.turns.served import Served
from runtime.wire.buckets import Partition

if TYPE_CHECKING:
    from runtime.intake.router import Router

logger = logging.getLogger("actorloom.host")


class Phase(Enum):
    """What an owner does with its partition."""

    WITHOUT = "it has no part of the keys; perhaps it waits for the lease"
    STARTING = "it has the lease, and its parts start"
    SERVING = "its parts serve the keys"
    DRAINING = "it gives the keys up; it does so to the end, even if the partition is wanted again meanwhile"


class Owner:
    """Owns one partition of an actor, from `run` to `drain`.

    Args:
        served: The actor of the host, as one whole.
        partition: The partition.
        check: Called with the partition and its lease, held, before anything is read. Raises if the keys are not stored in such
            partitions.
        starting: Held while the parts of an ownership start, so that few of them do so at the same time.
        wait_idle: Waits until a drain may give up the keys: `Host._wait_idle`.
        on_change: Called after `phase` or `wanted` has changed.
        lists: The lists over all partitions of the actor; None if it has one, or declares no index.
        router: Receives the requests of a partitioned actor; None for an actor that is one whole.
    """

    def __init__(
        self,
        served: Served,
        partition: Partition,
        check: Callable[[Partition, Lease], Awaitable[None]],
        starting: asyncio.Semaphore,
        wait_idle: Callable[["Owner", bool], Awaitable[None]],
        on_change: Callable[[], None],
        lists: Lists | None = None,
        router: "Router | None" = None,
    ) -> None:
        names = served.names.of(partition)
        self.served = msgspec.structs.replace(
            served,
            names=names,
            streams=Streams(served.jetstream, names, served.replicas, told=bool(served.actor.handlers.commands)),
            crashed=self.crashed,
            bursts=Bursts(),
        )
        self.partition = partition
        self.phase = Phase.WITHOUT
        self.wanted = partition.total == 1
        """Whether this process is to own the partition."""
        self.restarts = Restarts(self.served.label)
        self._check = check
        self._starting = starting
        self._wait_idle = wait_idle
        self._on_change = on_change
        self._lists = lists
        self._router = router
        self._drained = False
        """Whether `drain` was called."""
        self._wake = asyncio.Event()
        """Set while `run` has something to do: the partition is wanted, or `drain` was called."""
        self._give_up = asyncio.Event()
        """Set while the keys are to be given up: the partition is not wanted, or `drain` was called."""
        self._failure: asyncio.Future[BaseException] | None = None
        """Ends with the first failure of the current ownership."""
        self._serving: Serving | None = None
        self._lease: Lease | None = None
        self._left: list[asyncio.Future[None]] = []
        """Wait for the handlers that former ownerships have left alone."""
        self._decide()

    async def run(self) -> None:
        """Own the partition whenever it is wanted, until `drain`.

        Raises:
            HostFailed: It failed more often than the restart intensity allows.
            StateLost: The stream with the state was deleted or replaced.
            WrongLayout: The keys are stored in another number of partitions.
            ConfigurationError: A setting or a stream on the server cannot be used.
        """
        while True:
            await self._wake.wait()
            if self._drained:
                return
            try:
                await self._serve_once()
            except (StateLost, WrongLayout):
                raise
            except (ActorError, TimeoutError, OSError) as error:
                if seconds := self.restarts.note(error):
                    await run_unless(asyncio.sleep(seconds), self._give_up)

    def want(self, wanted: bool) -> None:
        """Say whether this process is to own the partition. If it does and is not to, it hands the keys over."""
        if wanted != self.wanted:
            self.wanted = wanted
            self._decide()
            self._on_change()

    def drain(self) -> None:
        """Receive no more messages, finish and commit the work in hand, and release the lease. `run` then returns."""
        self._drained = True
        self._decide()

    async def end_left(self) -> None:
        """Wait for the handlers that former ownerships have left alone."""
        await asyncio.gather(*self._left, return_exceptions=True)

    @property
    def holds(self) -> bool:
        """Whether this process has the keys, and has not begun to give them up."""
        return self.phase in (Phase.STARTING, Phase.SERVING)

    @property
    def ready(self) -> bool:
        """Whether this process serves the partition."""
        return self.phase is Phase.SERVING

    @property
    def draining(self) -> bool:
        """Whether the keys are being given up, or are not wanted."""
        return self._give_up.is_set() or self.phase is Phase.DRAINING

    @property
    def standby(self) -> bool:
        """Whether another process has the keys, and this one waits for the lease."""
        return self._lease is not None and self._lease.waiting

    @property
    def serving(self) -> Serving | None:
        """The parts that run during the current ownership; None without one."""
        return self._serving

    def crashed(self, error: BaseException) -> None:
        """Report the failure of a part. The ownership ends, and another one follows."""
        if isinstance(error, ActorError):
            logger.error("%s: a part failed: %s", self.served.label, error)
        else:
            log_fault(logger, "%s: a part failed: %s", self.served.label, error_text(error), error=error)
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(error)

    async def _serve_once(self) -> None:
        """Run one ownership, from standby to its end. Raises the failure that ended it, unless a drain did."""
        keyed = self.served.keyed
        lease = make_lease(self.served, str(self.partition.number))
        serving: Serving | None = None
        try:
            if keyed:
                self._lease = lease
                if not await self._unless_draining(acquire_in_standby(self.served, lease)):
                    return
                self._enter(Phase.STARTING)
                await self._check(self.partition, lease)
            serving = Serving(
                self.served,
                lease if keyed else None,
                lambda standby: self._wait_idle(self, standby),
                self._lists,
                self._router,
            )
            self._failure = asyncio.get_running_loop().create_future()
            if not await self._unless_draining(self._start(serving)):
                return
            self._serving = serving
            self.restarts.forget()
            self._enter(Phase.SERVING)
            error = await self._wait_for_end(lease)
            if error is not None:
                raise error
            self._enter(Phase.DRAINING)
            await serving.drain()
        finally:
            if self.phase is not Phase.DRAINING:
                self._enter(Phase.WITHOUT)
            self._serving = None
            try:
                await end_ownership(self.served.label, serving, lease if keyed else None)
            finally:
                self._enter(Phase.WITHOUT)
                if serving is not None:
                    self._left = [each for each in self._left if not each.done()]
                    self._left.append(asyncio.ensure_future(serving.end_left()))

    async def _start(self, serving: Serving) -> None:
        async with self._starting:
            await serving.start()

    async def _wait_for_end(self, lease: Lease) -> ActorError | TimeoutError | None:
        """Wait for the end of the ownership. Return the failure, or None for a drain."""
        assert self._failure is not None
        waits = [asyncio.ensure_future(each.wait()) for each in (self._give_up, lease.lost)]
        try:
            done, _ = await asyncio.wait({*waits, self._failure}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if waits[0] in done:  # The event itself may be clear again.
            return None
        if self._failure.done():
            error = self._failure.result()
            if isinstance(error, (ActorError, TimeoutError)):
                return error
            return ActorError(f"{self.served.label}: a part failed: {type(error).__name__}: {error_text(error)}")
        return LeaseLost(f"{self.served.label}: the lease was lost")

    async def _unless_draining(self, work: Coroutine[Any, Any, object]) -> bool:
        """Run `work` to its end, or cancel it as soon as the keys are given up. Return whether it ended."""
        return await run_unless(work, self._give_up)

    def _decide(self) -> None:
        """Set the events, after `wanted` or `_drained` has changed."""
        for event, is_set in (
            (self._wake, self.wanted or self._drained),
            (self._give_up, not self.wanted or self._drained),
        ):
            if is_set:
                event.set()
            else:
                event.clear()

    def _enter(self, phase: Phase) -> None:
        if phase is not self.phase:
            self.phase = phase
            self._on_change()


async def run_unless(work: Coroutine[Any, Any, object], event: asyncio.Event) -> bool:
    """Run `work` to its end, or cancel it as soon as the event is set. Return whether it ended."""
    task, wait = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({task, wait}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
            return True
        return False
    finally:
        wait.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
