"""The members of a partitioned actor: they announce themselves, learn of each other, and agree who owns which partition.

A member stores ``<actor>.member.<name>`` with a time to live in the bucket of leases, and repeats it as it renews a lease. All
members read these keys and the leases as they are written, so a member that comes or goes is known within milliseconds, and
one that was killed after the time to live. Nothing of this protects data: the leases do.
"""

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import Final

from runtime import clocks
from runtime.errors import ActorError
from runtime.host.owner import Owner
from runtime.host.placement import place
from runtime.host.standby import has_standby
from runtime.nats.connection import Subscription
from runtime.nats.jetstream.errors import ApiError, ErrorCode
from runtime.nats.lease import bucket_config
from runtime.nats.lease_value import is_removal, value_holder
from runtime.turns.served import Served
from runtime.wire import header_block
from runtime.wire.subjects import readable_key, token_of

logger = logging.getLogger("actorloom.host")

_TICK: Final = 0.25
"""Seconds between two looks for what has expired, and for members that wait for a partition."""
_REMOVED: Final = ("KV-Operation", "DEL")
_MARKER_TTL: Final = 1
"""Seconds for which the server keeps the marker of a member that has left."""
_LEAVE: Final = 0.5
"""Seconds for which a member that leaves waits until others wait for its partitions."""


class Members:
    """The membership of this process, from `run` to `leave`, and what it knows of the others.

    Args:
        served: The actor, as one whole.
        owners: The owners of all partitions in this process.
    """

    def __init__(self, served: Served, owners: Sequence[Owner]) -> None:
        self._served = served
        self._owners = owners
        self._name = served.holder
        self._prefix = f"$KV.{served.names.lease_bucket}.{served.name}."
        self._members: dict[str, float] = {}
        """For each other member, the time at which it counts as gone, by `clocks.elapsed`."""
        self._holders: dict[int, tuple[str, float]] = {}
        """For each partition with a holder, its name and the time at which its lease expires."""
        self._free_since: dict[int, float] = {}
        """For each partition without a holder, the time since when."""
        self._changed = asyncio.Event()
        self._left = False
        self.decided = asyncio.Event()
        """Set as soon as the owners know whether their partitions are wanted."""

    async def run(self) -> None:
        """Announce this process, and have its owners take and give back partitions, until the task is cancelled."""
        subscription: Subscription | None = None
        announced = 0.0
        try:
            while not self._left:
                try:
                    if subscription is None:
                        subscription = await self._watch()
                    if clocks.elapsed() - announced >= self._served.lease_ttl / 4:
                        self._announce()
                        announced = clocks.elapsed()
                    await self._decide()
                except (ActorError, TimeoutError) as error:
                    logger.debug("%s: its members are not known now: %s", self._served.name, error)
                await self._wait()
        finally:
            if subscription is not None:
                subscription.unsubscribe()

    async def leave(self) -> None:
        """Announce that this process owns no partition soon, and wait for a moment until others wait for its partitions."""
        self._left = True
        others = bool(self._alive())
        try:
            headers = [_REMOVED, (header_block.TTL.decode(), f"{_MARKER_TTL}s")]
            self._served.connection.publish(self._subject(self._name), headers=header_block.encode(headers))
        except ActorError:
            return  # It expires.
        if not others:
            return
        try:
            async with asyncio.timeout(_LEAVE):
                for owner in self._owners:
                    while owner.ready.is_set() and not await has_standby(owner.served):
                        await asyncio.sleep(0.01)
        except TimeoutError:
            pass

    async def _watch(self) -> Subscription:
        """Follow the members and leases as they are written, and read those that were."""
        served = self._served
        stream = bucket_config(served.names.lease_bucket, served.replicas)
        await served.jetstream.ensure_stream(stream)
        subscription = await served.connection.subscribe(f"{self._prefix}>", self._note)
        try:
            info = await served.jetstream.stream_info(stream.name, subjects=f"{self._prefix}>")
            for subject in info.state.subjects:
                stored = await served.jetstream.get_last(stream.name, subject)
                if stored is not None:
                    self._note(subject.encode(), b"", stored.headers, stored.payload)
        except ApiError as error:
            if error.err_code != ErrorCode.STREAM_NOT_FOUND:
                raise
        return subscription

    def _note(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        """Take note of a member or of a lease that was written or removed. Called from the read loop."""
        tokens = subject.decode("utf-8", "replace").removeprefix(self._prefix).split(".")
        gone = is_removal(headers) or not payload
        expires = clocks.elapsed() + math.ceil(self._served.lease_ttl)
        match tokens:
            case ["member", token]:
                name = readable_key(token)
                known = self._members.get(name, 0.0) > clocks.elapsed()
                if gone:
                    self._members.pop(name, None)
                elif name != self._name:
                    self._members[name] = expires
                if known == gone:
                    self._changed.set()
            case [number] if number.isdigit() and int(number) < len(self._owners):
                partition, before = int(number), self._holders.get(int(number))
                holder = None if gone else value_holder(payload)
                if holder is None:
                    self._holders.pop(partition, None)
                else:
                    self._holders[partition] = holder, expires
                if (before and before[0]) != holder:
                    self._changed.set()
            case _:
                pass

    def _announce(self) -> None:
        headers = [(header_block.TTL.decode(), f"{math.ceil(self._served.lease_ttl)}s")]
        self._served.connection.publish(self._subject(self._name), b"{}", headers=header_block.encode(headers))

    async def _decide(self) -> None:
        """Have the owners take the partitions that this process is to own, and give back the others if somebody waits for them."""
        now = clocks.elapsed()
        holders = {each: holder for each, (holder, expires) in self._holders.items() if expires > now}
        placed = place({*self._alive(), self._name}, holders, len(self._owners))
        patience = 2 * self._served.lease_ttl
        for owner in self._owners:
            number = owner.partition.number
            if number in holders:
                self._free_since.pop(number, None)
            forsaken = now - self._free_since.setdefault(number, now) > patience if number not in holders else False
            if placed[number] == self._name or forsaken:
                owner.want(True)
            elif owner.wanted and (holders.get(number) != self._name or await has_standby(owner.served)):
                owner.want(False)
        self.decided.set()

    async def _wait(self) -> None:
        """Wait until something has changed, or may have expired."""
        try:
            async with asyncio.timeout(_TICK):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    def _alive(self) -> list[str]:
        """Return the other members."""
        now = clocks.elapsed()
        self._members = {name: expires for name, expires in self._members.items() if expires > now}
        return list(self._members)

    def _subject(self, name: str) -> str:
        return f"{self._prefix}member.{token_of(name)}"
