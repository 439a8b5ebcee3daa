"""Who owns which partition of an actor: read from its layout, its leases and its members, without asking a process."""

import asyncio

import msgspec

from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import ApiError, ErrorCode
from runtime.nats.jetstream.responses import StoredMessage
from runtime.nats.lease_value import Holder, Kind, fault, holder_of, kind_of
from runtime.storage.layout import Layout, Layouts
from runtime.storage.membership import Member, read_member
from runtime.wire.subjects import Names


class PartitionLease(msgspec.Struct, frozen=True):
    """The value of the lease of one partition."""

    partition: int
    subject: str
    stored_at: float
    """When it was stored, in Unix seconds."""
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
    stream, prefix = f"KV_{names.lease_bucket}", f"$KV.{names.lease_bucket}.{names.actor}."
    try:
        info = await jetstream.stream_info(stream, subjects=f"{prefix}>")
    except ApiError as error:
        if error.err_code != ErrorCode.STREAM_NOT_FOUND:
            raise
        return Ownership(layout, [], [])
    keys = [subject.removeprefix(prefix) for subject in info.state.subjects]
    numbers = sorted(int(key) for key in keys if key.isdecimal() and int(key) < layout.partitions)
    leases, entries = await asyncio.gather(
        asyncio.gather(*(_value(jetstream, stream, f"{prefix}{number}") for number in numbers)),
        asyncio.gather(*(_value(jetstream, stream, f"{prefix}{key}") for key in keys if key.startswith("member."))),
    )
    members = (read_member(stored.payload) for stored in entries if stored is not None)
    return Ownership(
        layout,
        [_lease(number, stored) for number, stored in zip(numbers, leases, strict=True) if stored is not None],
        sorted((member for member in members if member is not None), key=lambda member: member.holder),
    )


async def _value(jetstream: JetStream, stream: str, subject: str) -> StoredMessage | None:
    """Return the value of a key of the bucket; None if it was removed or has expired."""
    stored = await jetstream.get_last(stream, subject)
    return stored if kind_of(stored) is Kind.VALUE else None


def _lease(number: int, stored: StoredMessage) -> PartitionLease:
    return PartitionLease(number, stored.subject, stored.time, holder_of(stored), fault(stored))
