"""The view of one member of a partitioned actor: the other members, and the holders of the partitions.

It learns this from the entries in the bucket of leases, as they are written. An entry counts for the time that it is stored,
by the clock of this process, which goes on while the machine is suspended.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

from runtime import clocks
from runtime.nats.lease_value import is_removal, lifetime_in, value_holder
from runtime.storage.membership import MEMBER, read_member

logger = logging.getLogger("actorloom.host")


class _Entry(NamedTuple):
    """A member, or the holder of a partition."""

    name: str
    expires: float
    """The time at which it counts as gone, by `clocks.elapsed`."""
    unable: tuple[int, ...] = ()


class View:
    """The other members of an actor, and the holders of its partitions.

    Args:
        actor: The name of the actor.
        name: The name of this member, which is not one of the others.
        partitions: The number of partitions. A member with another number is none.
        ttl: The lifetime of a lease that says none, in seconds.
    """

    def __init__(self, actor: str, name: str, partitions: int, ttl: float) -> None:
        self.noted: set[str] = set()
        """The keys of the entries that were noted since the caller has last cleared this."""
        self.on_lost: Callable[[int], None] = lambda number: None
        """Called with each partition whose holder has not released it and is its holder no more: it may have died."""
        self._actor = actor
        self._name = name
        self._partitions = partitions
        self._ttl = ttl
        self._numbers = {str(number): number for number in range(partitions)}
        self._members: dict[str, _Entry] = {}
        """By key."""
        self._holders: dict[int, _Entry] = {}
        self._free_since: dict[int, float] = {}

    def note(self, key: str, headers: bytes | None, payload: bytes) -> bool:
        """Take note of an entry that was written or removed. Return whether it may change the placement.

        Args:
            key: The key of the entry, without the name of the actor.
            headers: Its headers.
            payload: Its value; empty if it was removed.
        """
        self.noted.add(key)
        kind, _, rest = key.partition(".")
        payload = b"" if is_removal(headers) else payload
        if kind == MEMBER and rest and "." not in rest:
            return self._note_member(key, headers, payload)
        number = self._numbers.get(key)
        return number is not None and self._note_holder(number, headers, payload)

    def members(self) -> list[str]:
        """Return the names of the other members."""
        return [each.name for each in self._alive()]

    def unable(self) -> dict[str, tuple[int, ...]]:
        """Return the partitions that some of the other members cannot serve now."""
        return {each.name: each.unable for each in self._alive() if each.unable}

    def holders(self, mine: set[int]) -> dict[int, str]:
        """Return the holder of each partition that has one. `mine` are those that this process holds now, as it knows best."""
        now = clocks.elapsed()
        for number in [number for number, each in self._holders.items() if each.expires <= now]:
            del self._holders[number]
            self.on_lost(number)
        found = {number: each.name for number, each in self._holders.items() if each.name != self._name}
        found.update(dict.fromkeys(mine, self._name))
        for number in range(self._partitions):
            if number in found:
                self._free_since.pop(number, None)
            else:
                self._free_since.setdefault(number, now)
        return found

    def free_for(self, seconds: float) -> set[int]:
        """Return the partitions that had no holder for some time, at the calls of `holders`."""
        since = clocks.elapsed() - seconds
        return {number for number, start in self._free_since.items() if start < since}

    def _alive(self) -> list[_Entry]:
        now = clocks.elapsed()
        self._members = {key: each for key, each in self._members.items() if each.expires > now}
        return list(self._members.values())

    def _note_member(self, key: str, headers: bytes | None, payload: bytes) -> bool:
        known = self._members.get(key)
        if known is not None and known.expires <= clocks.elapsed():
            known = None
        member = read_member(payload) if payload else None
        lifetime = lifetime_in(headers)
        if member is None or lifetime is None:
            if payload and known is None:
                logger.debug("%s: the entry %s is not that of a member: it is ignored", self._actor, key)
            elif not payload:
                self._members.pop(key, None)
            return known is not None and not payload
        if member.holder == self._name or member.partitions != self._partitions:
            return False
        self._members[key] = _Entry(member.holder, clocks.elapsed() + lifetime, member.unable)
        return known is None or known.unable != member.unable

    def _note_holder(self, number: int, headers: bytes | None, payload: bytes) -> bool:
        known = self._holders.get(number)
        holder = value_holder(payload) if payload else None
        if known is not None and known.name != holder and not is_removal(headers):
            self.on_lost(number)
        if holder is None:
            self._holders.pop(number, None)
        else:
            self._holders[number] = _Entry(holder, clocks.elapsed() + (lifetime_in(headers) or self._ttl))
        return (known.name if known is not None else None) != holder
