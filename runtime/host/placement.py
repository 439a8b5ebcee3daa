"""Placement: which member is to own each partition of an actor.

A member is a process that runs a partitioned actor. Each member computes the placement by itself, as a function of the members
and of the present holders, so that no member has to lead. Members that see the same compute the same. If they do not, the
leases decide: two members that both want a partition cannot both own it.

A placement does not change while it is carried out: if some partitions are already with their new members, and others are
free or still with their old ones, the same placement follows. And a member gives a partition back only if it has more than
its share, and takes one only if it has less. So members that see different things do not exchange a partition for ever.
"""

from collections.abc import Collection, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

NONE: Final[Mapping[str, Collection[int]]] = {}
"""For the members of an actor that can all serve each partition."""


class Decision(NamedTuple):
    """The partitions that one member is to own and to give back. It leaves the others alone."""

    take: frozenset[int]
    """The partitions to own: to keep, or to wait for."""
    offer: frozenset[int]
    """The partitions to give back as soon as another member waits for them."""


def decide(
    name: str,
    members: Collection[str],
    holders: Mapping[int, str],
    partitions: int,
    forsaken: Collection[int] = (),
    unable: Mapping[str, Collection[int]] = NONE,
) -> Decision:
    """Return the decision of the member `name`.

    Args:
        name: The name of the member, which may be one of `members`.
        members: The names of the members that it knows.
        holders: See `place`.
        partitions: The number of partitions.
        forsaken: Partitions that have been free for so long that any member may take them.
        unable: See `place`.
    """
    return follow(place({*members, name}, holders, partitions, unable), name, holders, forsaken)


def follow(
    placed: Mapping[int, str], name: str, holders: Mapping[int, str], forsaken: Collection[int] = ()
) -> Decision:
    """Return the decision of the member `name`, given a placement. The arguments are those of `decide`."""
    take = {partition for partition, member in placed.items() if member == name}
    offer = {partition for partition, holder in holders.items() if holder == name and partition not in take}
    return Decision(frozenset(take.union(forsaken)), frozenset(offer))


def place(
    members: Collection[str],
    holders: Mapping[int, str],
    partitions: int,
    unable: Mapping[str, Collection[int]] = NONE,
) -> dict[int, str]:
    """Return the member that is to own each partition.

    The numbers of partitions of any two members differ by one at most. No other placement with that balance takes fewer
    partitions from their holders. A partition without a holder goes to a member with room, by rendezvous hashing. If only
    members without room can serve it, it goes to one of these, and the balance is not kept.

    Args:
        members: The names of the members.
        holders: The present holder of each partition that has one. A holder that is no member counts as none.
        partitions: The number of partitions.
        unable: The partitions that a member cannot serve now. It gets such a partition only if no member can serve it.

    Returns:
        The member of each partition; nothing if there are no members.
    """
    if not members:
        return {}
    held: dict[str, list[int]] = {member: [] for member in sorted(members)}
    for partition in range(partitions):
        holder = holders.get(partition)
        if holder in held:
            held[holder].append(partition)
    room = _shares(held, partitions)
    placed: dict[int, str] = {}
    takers = [member for member, mine in held.items() if len(mine) < room[member]]
    for member, mine in held.items():
        if len(mine) > room[member]:
            # It keeps those first that no member with room can serve.
            mine.sort(
                key=lambda partition: (not _able(takers, partition, unable), _weight(member, partition)), reverse=True
            )
        for partition in mine[: room[member]]:
            placed[partition] = member
        room[member] -= min(len(mine), room[member])
    for partition in range(partitions):
        if partition not in placed:
            member = _choose(partition, room, holders.get(partition), unable)
            placed[partition] = member
            room[member] -= 1
    return placed


def _shares(held: Mapping[str, list[int]], partitions: int) -> dict[str, int]:
    """Return how many partitions each member is to own. Those that have more than the least share may have one more."""
    least, more = divmod(partitions, len(held))
    if not more:
        return dict.fromkeys(held, least)
    ranked = sorted(held, key=lambda member: (len(held[member]) <= least, _weight(member, partitions)))
    return {member: least + (rank < more) for rank, member in enumerate(ranked)}


def _choose(partition: int, room: Mapping[str, int], holder: str | None, unable: Mapping[str, Collection[int]]) -> str:
    """Return the member for a partition that its holder is not to keep, or that has none."""
    open_to = _able([member for member in room if room[member] > 0], partition, unable)
    if not open_to:
        able = _able(room, partition, unable)
        if holder is not None and holder in able:
            return holder
        most = max((room[member] for member in able), default=0)
        open_to = [member for member in able if room[member] == most] or [each for each in room if room[each] > 0]
    return max(open_to, key=lambda member: _weight(member, partition))


def _able(members: Collection[str], partition: int, unable: Mapping[str, Collection[int]]) -> Collection[str]:
    """Return those of the members that can serve a partition."""
    return [each for each in members if partition not in unable.get(each, ())] if unable else members


@lru_cache(maxsize=1 << 16)
def _weight(member: str, partition: int) -> bytes:
    """Return the weight of a partition for a member, by which rendezvous hashing chooses."""
    return blake2b(f"{member} {partition}".encode(), digest_size=8).digest()
