"""The leases of all partitions of an actor, held by a tool while no owner lives."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from runtime import clocks
from runtime.admin.refusal import Refused
from runtime.errors import ActorError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.nats.lease import Lease
from runtime.nats.lease_value import Holder, Kind, holder_of, kind_of, lifetime
from runtime.wire.buckets import Partition
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.admin")

_TOOLS: Final = ("repartition", "import")
"""The tools that hold leases. The name of such a holder begins with that of its tool."""

_LOOK: Final = 0.1
"""Seconds between two looks at a lease that an owner may hold. An owner renews it four times in its lifetime."""

_GRACE: Final = 2.0
"""Seconds that the server may take to note that a lease has expired."""


class Leases:
    """Leases that are held together."""

    def __init__(self, leases: list[Lease]) -> None:
        self._leases = leases
        self.settled = True
        """Whether the outcome of each write of the tool is known. If not, the next owner does not take over as from a clean end."""

    def held(self) -> bool:
        """Return whether all of them are held now."""
        return all(lease.held() for lease in self._leases)

    def require(self) -> None:
        """Raise `ActorError` if one of them is lost."""
        if not self.held():
            raise ActorError("a lease was lost: was this process paused, or the server away? Run the command again")


@asynccontextmanager
async def hold(
    jetstream: JetStream,
    names: Names,
    stored: int,
    count: int,
    ttl: float,
    replicas: int,
    report: Callable[[str], None],
    tool: str = "repartition",
) -> AsyncGenerator[Leases]:
    """Hold the leases of an actor for the duration of the block. They are released at its end.

    Args:
        jetstream: The client.
        names: The names of the actor, as one whole.
        stored: The number of partitions that may have had an owner.
        count: The number of leases, not less than `stored`.
        ttl: Seconds of a lease.
        replicas: The number of replicas of the bucket of leases, if it is missing.
        report: Called with a line of text if a lease of a process that seems to be dead has to expire.
        tool: One of `_TOOLS`.

    Raises:
        Refused: A process holds one of them.
        ActorError, TimeoutError: The server does not answer, or refuses it.
    """
    await asyncio.gather(*(_wait_until_free(jetstream, names, number, report) for number in range(stored)))
    if await _read(jetstream, names, 0) is None:
        report(f"no lease is stored, so an owner may live that has just lost its own: waiting {ttl:g} s for it")
    holder = f"{tool}-{new_id()}"
    leases = [
        Lease(
            jetstream,
            bucket=names.lease_bucket,
            key=f"{names.actor}.{number}",
            holder=holder,
            ttl=ttl,
            replicas=replicas,
            used=partial(_was_used, jetstream, names, stored, number),
        )
        for number in range(count)
    ]
    held = Leases(leases)
    try:
        try:
            async with asyncio.timeout(2 * ttl + _GRACE):
                await _acquire(jetstream, names, leases)
        except TimeoutError:
            for number, lease in enumerate(leases):
                if not lease.held():
                    await refuse_owner(jetstream, names, number)
            raise
        yield held
    finally:
        await asyncio.gather(*(lease.release(held.settled) for lease in leases), return_exceptions=True)


async def _acquire(jetstream: JetStream, names: Names, leases: list[Lease]) -> None:
    """Acquire all leases. Raises `Refused` if another tool has the first one: each would wait for some leases of the other."""
    acquiring = asyncio.gather(*(lease.acquire() for lease in leases))
    try:
        while not acquiring.done() and not leases[0].held():
            await asyncio.wait({acquiring}, timeout=_LOOK)
            stored = await _read(jetstream, names, 0)
            other = None if stored is None or kind_of(stored) is not Kind.VALUE else holder_of(stored)
            if stored and other and _tool(other) and other.holder != leases[0].holder:
                raise Refused(_lives(names, 0, stored))
        await acquiring
    finally:
        acquiring.cancel()
        await asyncio.gather(acquiring, return_exceptions=True)


async def _was_used(jetstream: JetStream, names: Names, stored: int, number: int) -> bool:
    """Return whether a partition may have had an owner."""
    if number >= stored:
        return False
    info = await jetstream.find_stream(names.of(Partition(stored, number)).turns_stream)
    return info is not None and info.state.last_seq > 0


async def refuse_owner(jetstream: JetStream, names: Names, number: int) -> None:
    """Raise `Refused` if the lease of a partition has a value, which names its holder."""
    if (stored := await _read(jetstream, names, number)) is not None and kind_of(stored) is Kind.VALUE:
        raise Refused(_lives(names, number, stored))


async def _wait_until_free(jetstream: JetStream, names: Names, number: int, report: Callable[[str], None]) -> None:
    """Return when nobody holds a lease. Raises `Refused` as soon as its holder renews it, for then the holder lives."""
    first = await _read(jetstream, names, number)
    if first is None or kind_of(first) is not Kind.VALUE:
        return
    holder, seconds = holder_of(first), (lifetime(first) or 0.0) + _GRACE
    until, told = clocks.elapsed() + seconds, clocks.elapsed() + seconds / 2
    while clocks.elapsed() < until:
        await asyncio.sleep(_LOOK)
        now = await _read(jetstream, names, number)
        if now is None or kind_of(now) is not Kind.VALUE:
            return
        if now.sequence != first.sequence:
            raise Refused(_lives(names, number, now))
        if clocks.elapsed() > told and holder is not None:
            told = until
            report(f"waiting for the lease of {holder.host}, process {holder.pid}, to expire: it is not renewed")


async def _read(jetstream: JetStream, names: Names, number: int) -> StoredMessage | None:
    return await jetstream.find_last(f"KV_{names.lease_bucket}", f"$KV.{names.lease_bucket}.{names.actor}.{number}")


def _lives(names: Names, number: int, stored: StoredMessage) -> str:
    holder = holder_of(stored)
    if holder is None:
        return f"{names.actor}: the lease of partition {number} is held, and its value cannot be read"
    where = f"host {holder.host}, process {holder.pid}"
    if tool := _tool(holder):
        return f"{names.actor}: another {tool} is under way ({where})"
    return f"{names.actor}: an owner of partition {number} lives ({where}): stop all processes of the actor first"


def _tool(holder: Holder) -> str:
    """Return the tool that a holder is; empty for a process of the actor."""
    name = holder.holder.partition("-")[0]
    return name if name in _TOOLS else ""
