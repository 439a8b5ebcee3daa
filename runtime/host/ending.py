"""The end of an ownership: the lease is given back in a bounded time, whatever the code of the application does."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from runtime.nats.lease import Lease

logger = logging.getLogger("actorloom.host")

CLOSE_TIMEOUT: Final = 5.0
"""Seconds that the close of all parts may take."""
RELEASE_TIMEOUT: Final = 5.0
"""Seconds that the release of a lease may take. A lease that is not released expires."""


class Closing(Protocol):
    """The parts of one ownership: `Serving`."""

    @property
    def settled(self) -> bool:
        """Whether no commit is under way, or has an unknown outcome. It is for good after `close`."""
        ...

    async def close(self) -> None:
        """End all parts, and abandon the messages in hand."""
        ...


async def end_ownership(name: str, parts: Closing | None, lease: Lease | None) -> None:
    """Close the parts of an ownership, and release its lease. A cancellation of the caller waits until both are done.

    Args:
        name: The name of the actor.
        parts: The parts; None if they were not created.
        lease: The lease; None for an actor without state.
    """
    await _to_end(_end(name, parts, lease))


async def release(lease: Lease, settled: bool) -> None:
    """Release a lease within `RELEASE_TIMEOUT` seconds. See `Lease.release`."""
    try:
        async with asyncio.timeout(RELEASE_TIMEOUT):
            await lease.release(settled)
    except TimeoutError:
        logger.warning("lease %s: no answer to its release within %g s: it expires", lease.key, RELEASE_TIMEOUT)


async def _end(name: str, parts: Closing | None, lease: Lease | None) -> None:
    settled = parts is None
    try:
        if parts is not None:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await parts.close()
            settled = parts.settled
    except TimeoutError:
        logger.error("%s: the close was cut at its limit of %g s", name, CLOSE_TIMEOUT)
    finally:
        if lease is not None:
            await release(lease, settled)


async def _to_end(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end. A cancellation meanwhile is raised after that."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()
