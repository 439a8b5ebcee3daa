"""Who owns which partition of a service, as `ls` and `describe` show it."""

from typing import Any

from runtime.admin.discovery import Service
from runtime.admin.ownership import Ownership, read_ownership
from runtime.errors import ActorError
from runtime.nats.connection import Connection
from runtime.nats.jetstream.client import JetStream
from runtime.wire.printable import printable
from runtime.wire.subjects import Names


async def ownership_of(connection: Connection, service: Service) -> Ownership | None:
    """Return who owns the keys of a service; None if it has no keys, or the user of `connection` may not read it."""
    if not service.metadata.keyed:
        return None
    try:
        return await read_ownership(JetStream(connection), Names(service.name, service.metadata.namespace))
    except (ActorError, TimeoutError):
        return None


def ownership_data(ownership: Ownership | None) -> dict[str, Any] | None:
    """Return who owns which partition, for JSON."""
    if ownership is None:
        return None
    return {
        "count": ownership.layout.partitions,
        "owners": ownership.owners,
        "unowned": ownership.unowned,
        "members": [member.holder for member in ownership.members],
        "standbys": [member.holder for member in ownership.standbys],
    }


def ownership_text(service: Service, ownership: Ownership | None) -> str:
    """Return the number of partitions of a service, with the number that each process owns: ``8 (4+4)``."""
    return owned_text(service.metadata.keyed, ownership, service.metadata.partitions)


def owned_text(keyed: bool, ownership: Ownership | None, configured: int | str = "?") -> str:
    """Return what `ownership_text` returns, given whether the service has keys, and the number that it is configured for."""
    if not keyed:
        return "-"
    if ownership is None:
        return f"{configured} (?)"
    count, unowned = ownership.layout.partitions, ownership.unowned
    if count == 1:
        return "1" if not unowned else "1 (no owner)"
    owned = "+".join(str(len(partitions)) for partitions in ownership.owners.values())
    parts = [*([owned] if owned else []), *([f"{len(unowned)} without owner"] if unowned else [])]
    return f"{count} ({', '.join(parts)})"


def ownership_lines(ownership: Ownership) -> list[str]:
    """Return a line for each process that owns partitions, and for the rest."""
    lines = [f"  {printable(name)}: {numbers(partitions)}" for name, partitions in ownership.owners.items()]
    lines += [f"  {printable(member.holder)}: stands by" for member in ownership.standbys]
    return lines + ([f"  no owner: {numbers(ownership.unowned)}"] if ownership.unowned else [])


def numbers(partitions: list[int]) -> str:
    """Return the numbers of partitions as text."""
    return " ".join(map(str, partitions))
