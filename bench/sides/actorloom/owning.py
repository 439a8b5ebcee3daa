"""A process that shares the partitions of an actor with others."""

import asyncio

from bench.sides.actorloom.serve import ActorSide
from runtime.testing import System

_LOOK = 0.002
"""Seconds between two looks at the partitions."""


class OwningSide(ActorSide):
    """One of the processes that share the partitions of an actor."""

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self._owners = system.runner.hosts[0].owners

    async def own(self, number: int) -> None:
        """Return when this process owns so many partitions."""
        while len(await self.owned()) != number:
            await asyncio.sleep(_LOOK)

    async def owned(self) -> list[int]:
        """Return the partitions that this process serves."""
        return [owner.partition.number for owner in self._owners if owner.ready]
