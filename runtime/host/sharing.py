"""The share of one process in a partitioned actor: it is a member, owns partitions, and passes requests to other owners."""

import asyncio
from collections.abc import Callable, Sequence

from runtime.host.announcement import Load, announcement
from runtime.host.members import Members
from runtime.host.owned_log import OwnedLog
from runtime.host.owner import Owner
from runtime.intake.list_endpoint import ListEndpoint
from runtime.intake.lists import MergedLists
from runtime.intake.router import Local, Router
from runtime.turns.served import Served


class Sharing:
    """The share of this process, from `run` to a drain.

    Args:
        served: The actor, as one whole.
        owners: The owners of all its partitions in this process. They may be added later, before `run`.
        local: Finds the endpoints of the owners in this process.
        local_lists: Returns the lists of a partition that this process owns; None for another one.
        first: Called before the first log line about owned partitions.
    """

    def __init__(
        self,
        served: Served,
        owners: Sequence[Owner],
        local: Local,
        local_lists: Callable[[int], ListEndpoint | None],
        first: Callable[[], object],
    ) -> None:
        self.router = Router(served, local)
        """Receives the requests of the actor."""
        self.lists = MergedLists(served, local_lists) if served.actor.indexes else None
        """The lists over all partitions; None if the actor declares no index."""
        self.members = Members(served, owners, self.router.relays.lost)
        self.log = OwnedLog(served.name, owners, first)
        self._served = served
        self._owners = owners

    @property
    def decided(self) -> bool:
        """Whether it is known which partitions this process is to own."""
        return self.members.decided.is_set()

    @property
    def failure(self) -> str:
        """Why that is not known; empty if it is, or if nothing has failed."""
        return "" if self.decided else self.members.failure

    def _load(self) -> Load:
        return Load.sum(owner.serving.load for owner in self._owners if owner.serving is not None)

    async def run(self, drain: asyncio.Event) -> None:
        """Be a member until `drain` is set. The owners then drain, and this waits for the requests that were passed on."""
        discovery = announcement(self._served, self.router.statistics(), self._load)
        running, draining = asyncio.ensure_future(self.members.run()), asyncio.ensure_future(drain.wait())
        try:
            await self.router.start()
            await discovery.start()
            await asyncio.wait({running, draining}, return_when=asyncio.FIRST_COMPLETED)
            if not draining.done():
                await running  # It raises its error.
            await self.members.leave()
        finally:
            self.members.end()
            running.cancel()
            draining.cancel()
            self.log.close()
            for owner in self._owners:
                owner.drain()
            discovery.stop()
            await asyncio.gather(self.router.stop(), running, return_exceptions=True)
