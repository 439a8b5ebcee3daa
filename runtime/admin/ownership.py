"""Who owns which partition of an actor: read from its layout, its leases and its members, without asking a process."""

import msgspec

from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.nats.lease_value import Holder, Kind, fault, holder_of, kind_of, lifetime
from runtime.storage.layout import Layout, Layouts
from runtime.storage.membership import Member, read_entries, read_member
from runtime.wire.subjects import Names


class PartitionLease(msgspec.Struct, frozen=True):
    """The value of the lease of one partition."""

    partition: int
    subject: str
    stored_at: float
    """When it was stored, in Unix seconds."""
    lifetime: float | None
    """The seconds for which the server keeps it; None if it has no lifetime of at most an hour."""
    holder: Holder | None
    """None if the value cannot be read."""
    fault: str
    """What is wrong with the value; empty if nothing is."""


class Ownership(msgspec.Struct, frozen=True):
    """Who owns the keys of an actor, as it was stored when it was read."""

    layout: Layout
    leases: list[PartitionLease]
    """The leases with a value, by partition."""
    members: list[Member]
    """The processes that run the actor, by name. A process of an actor that is one whole does not announce itself."""

    @property
    def owners(self) -> dict[str, list[int]]:
        """The partitions of each process that owns any, by its name."""
        found: dict[str, list[int]] = {}
        for lease in self.leases:
            if lease.holder is not None and not lease.fault:
                found.setdefault(lease.holder.holder, []).append(lease.partition)
        return found

    @property
    def standbys(self) -> list[Member]:
        """The members that own no partition."""
        return [member for member in self.members if member.holder not in self.owners]

    @property
    def unowned(self) -> list[int]:
        """The partitions without an owner."""
        owned = {partition for partitions in self.owners.values() for partition in partitions}
        return [number for number in range(self.layout.partitions) if number not in owned]


async def read_ownership(jetstream: JetStream, names: Names) -> Ownership:
    """Return who owns the keys of an actor, given its names as one whole.

    Raises:
        WrongLayout: The layout is that of a newer version, unreadable, or was deleted.
        ApiError, PermissionDenied, TimeoutError: The layout or the leases cannot be read.
    """
    layout, _ = await Layouts(jetstream, names).find()
    entries = await read_entries(jetstream, names, layout.partitions)
    values = {key: stored for key, stored in entries.items() if kind_of(stored) is Kind.VALUE}
    members = (read_member(stored.payload) for key, stored in values.items() if not key.isdecimal())
    return Ownership(
        layout,
        [_lease(number, values[str(number)]) for number in range(layout.partitions) if str(number) in values],
        sorted((member for member in members if member is not None), key=lambda member: member.holder),
    )


def _lease(number: int, stored: StoredMessage) -> PartitionLease:
    return PartitionLease(number, stored.subject, stored.time, lifetime(stored), holder_of(stored), fault(stored))
