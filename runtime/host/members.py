"""The members of a partitioned actor: they announce themselves, learn of each other, and agree who owns which partition.

A member stores ``<actor>.member.<name>`` with a time to live in the bucket of leases, and repeats it as it renews a lease. All
members read these keys and the leases as they are written, so a member that comes or goes is known within milliseconds, and
one that was killed after the time to live. Nothing of this protects data: the leases do.

A message can be missed: the connection was lost, or this process was stopped for a while. Then the member reads all entries
anew before it decides anything.
"""

import asyncio
import logging
import math
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from runtime import clocks
from runtime.errors import ActorError, ConfigurationError
from runtime.host.owner import Owner
from runtime.host.placement import Decision, decide
from runtime.host.standby import has_standby
from runtime.host.view import View
from runtime.nats.connection import Subscription
from runtime.nats.lease import bucket_config
from runtime.storage.membership import Member, read_entries, remove_member, write_member
from runtime.turns.served import Served

logger = logging.getLogger("actorloom.host")

_TICK: Final = 0.25
"""Seconds between two looks for expired entries."""
_SOON: Final = 0.05
"""Seconds between the first looks for a member that waits for an offered partition."""
_SOON_LOOKS: Final = 20
"""The number of these looks. Later ones follow every `_TICK`: the member does not come."""
_LEAVE: Final = 0.5
"""Seconds for which a member that leaves waits until others wait for its partitions."""
_FAILURES: Final = 2
"""Failures in a row after which other members are to serve a partition."""
_UNABLE: Final = 60.0
"""Seconds after them in which this process owns the partition only if no other member can."""


class _Failed(NamedTuple):
    """A partition that this process has failed to serve."""

    failures: int
    """Failures in a row."""
    until: float
    """The time until which others are to serve it, by `clocks.elapsed`."""


class Members:
    """The membership of this process, from `run` to `leave`.

    Args:
        served: The actor, as one whole.
        owners: The owners of all partitions in this process.
        on_lost: Called with each partition whose owner may have died.
    """

    def __init__(self, served: Served, owners: Sequence[Owner], on_lost: Callable[[int], None]) -> None:
        self._served = served
        self._owners = owners
        self._prefix = f"$KV.{served.names.lease_bucket}.{served.name}."
        self._stream = bucket_config(served.names.lease_bucket, served.replicas)
        self._view = View(served.name, served.holder, served.options.partitions, math.ceil(served.lease_ttl))
        self._view.on_lost = on_lost
        self._announced: Member | None = None
        """The last announcement of this process; None before the first one, and after it has left."""
        self._announced_at = 0.0
        self._looked_at = -math.inf
        """The time of the last look, by `clocks.elapsed`."""
        self._stale = True
        """Whether messages may have been missed, so that all entries are to be read."""
        self._failed: dict[int, _Failed] = {}
        self._asked = 0
        """Looks in a row at which nobody waited for an offered partition."""
        self._changed = asyncio.Event()
        self._left = False
        self.failure = ""
        """Why this process does not know the members now; empty if it does."""
        self.decided = asyncio.Event()
        """Set as soon as the owners know whether their partitions are wanted."""

    async def run(self) -> None:
        """Announce this process, and have its owners take and give back partitions, until `leave`.

        Raises:
            ConfigurationError: The bucket exists as another kind of stream.
        """
        connection = self._served.connection
        subscription: Subscription | None = None
        connection.on_reconnect.append(self._reconnected)
        try:
            while not self._left:
                try:
                    if subscription is None:
                        await self._served.jetstream.ensure_stream(self._stream)
                        subscription = await connection.subscribe(f"{self._prefix}>", self._note)
                    await self._look()
                    self.failure = ""
                except ConfigurationError:
                    raise
                except (ActorError, TimeoutError) as error:
                    self._warn(f"its members are not known now: {error or 'no answer'}")
                await self._wait()
        finally:
            connection.on_reconnect.remove(self._reconnected)
            if subscription is not None:
                subscription.unsubscribe()

    async def leave(self) -> None:
        """Say that this process owns no partition soon, and wait for a moment until others wait for its partitions."""
        self._left = True
        others = self._view.members()
        self.end()
        if not others:
            return
        try:
            async with asyncio.timeout(_LEAVE):
                await asyncio.gather(*(self._until_awaited(owner) for owner in self._owners))
        except TimeoutError:
            logger.debug("%s: nobody waits for some partitions of this process", self._served.name)

    def end(self) -> None:
        """Say that this process is no member any more, if it ever was one."""
        self._left = True
        announced, self._announced = self._announced, None
        if announced is not None:
            try:
                remove_member(self._served.jetstream, self._served.names, self._served.holder)
            except ActorError as error:
                logger.debug("%s: the entry of this process expires: %s", self._served.name, error)

    async def _look(self) -> None:
        """Announce this process, read all entries if messages were missed, and have the owners follow the placement."""
        now, before = clocks.elapsed(), self._looked_at
        if now - before > self._served.lease_ttl / 2:
            self._stale = True  # This process was stopped, or its machine was suspended.
        self._looked_at = now
        self._announce()
        if self._stale:
            self._stale = False
            try:
                await self._read()
            except BaseException:
                self._stale = True
                raise
        await self._decide()

    def _announce(self) -> None:
        """Say that this process is there, from time to time and if something has changed."""
        now, served = clocks.elapsed(), self._served
        member = Member(served.holder, len(self._owners), socket.gethostname(), os.getpid(), self._unable(now))
        if not self._left and (member != self._announced or now - self._announced_at >= served.lease_ttl / 4):
            write_member(served.jetstream, served.names, member, served.lease_ttl)
            self._announced, self._announced_at = member, now

    def _unable(self, now: float) -> tuple[int, ...]:
        """Return the partitions that this process has failed to serve lately."""
        for owner in self._owners:
            number, failures = owner.partition.number, owner.restarts.in_a_row
            before = self._failed.get(number)
            if failures < _FAILURES:
                self._failed.pop(number, None)
            elif before is None or before.failures < failures:
                self._failed[number] = _Failed(failures, now + _UNABLE)
        return tuple(number for number, failed in sorted(self._failed.items()) if failed.until > now)

    async def _read(self) -> None:
        """Read the entries of all members and leases. What was noted meanwhile is newer."""
        served, view = self._served, self._view
        view.noted.clear()
        for key, stored in (await read_entries(served.jetstream, served.names, len(self._owners))).items():
            if key not in view.noted:
                view.note(key, stored.headers, stored.payload)

    async def _decide(self) -> None:
        """Have the owners take the partitions that this process is to own, and give back those that others wait for."""
        owners, served = self._owners, self._served
        holders = self._view.holders({owner.partition.number for owner in owners if owner.holds})
        unable = {**self._view.unable(), served.holder: self._announced.unable if self._announced else ()}
        decision = decide(
            served.holder, self._view.members(), holders, len(owners), self._view.free_for(2 * served.lease_ttl), unable
        )
        for owner in owners:
            number = owner.partition.number
            if number in decision.take:
                owner.want(True)
            elif number not in decision.offer:
                owner.want(False)
        self.decided.set()
        await self._offer(decision)

    async def _offer(self, decision: Decision) -> None:
        """Give back the partitions that are placed elsewhere and for which somebody waits."""
        offered = [self._owners[number] for number in sorted(decision.offer) if self._owners[number].wanted]
        waiting = await asyncio.gather(*(has_standby(owner.served) for owner in offered))
        for owner, awaited in zip(offered, waiting, strict=True):
            if awaited:
                owner.want(False)
        self._asked = self._asked + 1 if offered and not any(waiting) else 0

    async def _wait(self) -> None:
        """Wait until something has changed, or may have expired."""
        soon = 0 < self._asked <= _SOON_LOOKS
        try:
            async with asyncio.timeout(_SOON if soon else _TICK):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    async def _until_awaited(self, owner: Owner) -> None:
        """Wait until another member waits for a partition, if this process serves it."""
        while owner.ready and not await has_standby(owner.served):
            await asyncio.sleep(0.01)

    def _note(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        """Take note of an entry that was written or removed. Called from the read loop."""
        key = subject.decode("utf-8", "replace").removeprefix(self._prefix)
        if self._view.note(key, headers, payload):
            self._changed.set()

    def _reconnected(self) -> None:
        self._stale = True
        self._changed.set()

    def _warn(self, text: str) -> None:
        if text != self.failure:
            self.failure = text
            logger.warning("%s: %s", self._served.name, text)
