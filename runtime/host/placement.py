"""Placement: which member is to own each partition of an actor.

A member is a process that runs a partitioned actor. Each member computes the placement by itself, as a function of the members
and of the present holders, so that no member has to lead. Members that see the same compute the same. If they do not, the
leases decide: two members that both want a partition cannot both own it.
"""

from collections.abc import Collection, Mapping
from hashlib import blake2b


def place(members: Collection[str], holders: Mapping[int, str], partitions: int) -> dict[int, str]:
    """Return the member that is to own each partition.

    The numbers of partitions of any two members differ by one at most. No other placement with that balance takes fewer
    partitions from their holders. A partition without a holder goes to a member with room, by rendezvous hashing.

    Args:
        members: The names of the members.
        holders: The present holder of each partition that has one. A holder that is no member counts as none.
        partitions: The number of partitions.

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
    least, more = divmod(partitions, len(held))
    # The members that may have one more are those that lose one otherwise.
    ranked = sorted(held, key=lambda member: (-len(held[member]), _weight(member, partitions)))
    room = {member: least + (rank < more) for rank, member in enumerate(ranked)}
    placed: dict[int, str] = {}
    for member, mine in held.items():
        mine.sort(key=lambda partition: _weight(member, partition), reverse=True)
        for partition in mine[: room[member]]:
            placed[partition] = member
        room[member] -= min(len(mine), room[member])
    for partition in range(partitions):
        if partition not in placed:
            member = max((each for each in held if room[each]), key=lambda each: _weight(each, partition))
            placed[partition] = member
            room[member] -= 1
    return placed


def _weight(member: str, partition: int) -> bytes:
    """Return the weight of a partition for a member, by which rendezvous hashing chooses."""
    return blake2b(f"{member} {partition}".encode(), digest_size=8).digest()
