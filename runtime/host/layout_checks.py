"""The checks of the stored layout: as a host begins, and by each owner of a partition before it reads anything."""

import asyncio
import logging
from typing import Final

from runtime.errors import ActorError
from runtime.host.ending import release
from runtime.host.serving import make_lease
from runtime.nats.jetstream.errors import StreamConflict
from runtime.nats.lease import Lease
from runtime.storage.layout import Layouts
from runtime.turns.served import Served
from runtime.wire.buckets import Partition

logger = logging.getLogger("actorloom.host")

_LOOK: Final = 0.05
"""Seconds between two looks whether another process has stored the layout, in a process that waits to do so."""


class LayoutChecks:
    """The checks of one host. Each raises `WrongLayout` if the keys are stored in another number of partitions.

    Args:
        served: The actor, as one whole.
    """

    def __init__(self, served: Served) -> None:
        self._served = served
        self._partitions = served.options.partitions
        self._layouts = Layouts(served.jetstream, served.names, served.replicas)

    async def begin(self) -> None:
        """Check the layout. Store it, and create the streams of all partitions, if a partitioned actor has never run.

        An actor that is one whole reads nothing here: the stream of its records is another one with each other layout, so its
        creation fails (`explain`), and `check` follows with the lease held.
        """
        if self._partitions == 1:
            return
        if not await self._layouts.begun(self._partitions):
            await self._store_first()
        await self._layouts.require(self._partitions)
        await self._layouts.create_streams(self._partitions)

    async def explain(self, conflict: StreamConflict) -> None:
        """Raise `WrongLayout` if a conflict of the actor's streams comes from another layout, or from a deleted one."""
        if self._served.keyed:
            await self._layouts.find()
            await self._layouts.require(self._partitions)
        raise conflict

    async def check(self, partition: Partition, lease: Lease) -> None:
        """Check the layout with the lease held, and finish the end of a repartition whose tool has died."""
        served, layout = self._served, await self._layouts.require(partition.total)
        if not layout.before:
            return
        from runtime.storage.leftovers import Leftovers  # Few starts need it.

        leftovers = Leftovers(served.jetstream, served.names, layout.before, lease.held)
        moved = await leftovers.move(partition)
        logger.info("%s: %d timers are moved from the %d partitions of before", served.name, moved, layout.before)
        try:
            await leftovers.clear()
        except (ActorError, TimeoutError) as error:
            logger.warning(
                "%s: the streams of before a repartition are not deleted: %s: run `actorloom repartition %s %d` with the actor "
                "stopped",
                served.name, error, served.name, partition.total,
            )  # fmt: skip

    async def _store_first(self) -> None:
        """Store the layout, or wait until another process has stored it.

        A process that comes second does not wait for the lease: the first one stores the layout, and may keep the lease
        as the owner of partition 0.
        """
        lease = make_lease(self._served, "0")
        acquiring = asyncio.ensure_future(lease.acquire())
        try:
            while not acquiring.done() and not await self._layouts.begun(self._partitions):
                await asyncio.wait({acquiring}, timeout=_LOOK)
            if acquiring.done():
                await acquiring
                await self._layouts.begin(self._partitions)
        finally:
            acquiring.cancel()
            await asyncio.gather(acquiring, return_exceptions=True)
            if lease.held():
                await release(lease, settled=True)
