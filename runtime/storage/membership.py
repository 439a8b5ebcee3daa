"""The members of a partitioned actor: each process that runs it says so under ``<actor>.member.<process>``.

The entries are in the bucket of leases. A process repeats its entry, which expires soon after the process has ended.
"""

import asyncio
import math
from typing import Final

import msgspec

from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.wire import header_block
from runtime.wire.codec import UNDECODABLE
from runtime.wire.subjects import Names
from runtime.wire.tokens import token_of

MEMBER: Final = "member"
"""The token before the name of a member in the keys of the bucket."""
_MARKER_TTL: Final = 1
"""Seconds for which the server keeps the marker of a member that has left."""
_REMOVED: Final = ("KV-Operation", "DEL")
_READS: Final = 64
"""Entries of the bucket that are read at the same time."""


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """One process that runs a partitioned actor."""

    holder: str
    """The name of the process as an owner of keys."""
    partitions: int
    """The number of partitions for which it is configured."""
    host: str
    pid: int
    unable: tuple[int, ...] = ()
    """The partitions that it has failed to serve lately."""


def write_member(jetstream: JetStream, names: Names, member: Member, ttl: float) -> None:
    """Store the entry of a process for `ttl` seconds. Raises `PublishError` if it cannot be sent."""
    headers = [(header_block.TTL.decode(), f"{math.ceil(ttl)}s")]
    block = header_block.encode(headers)
    jetstream.connection.publish(_subject(names, member.holder), msgspec.json.encode(member), headers=block)


def remove_member(jetstream: JetStream, names: Names, holder: str) -> None:
    """Remove the entry of a process. Raises `PublishError` if that cannot be sent."""
    headers = [_REMOVED, (header_block.TTL.decode(), f"{_MARKER_TTL}s")]
    jetstream.connection.publish(_subject(names, holder), headers=header_block.encode(headers))


def read_member(payload: bytes) -> Member | None:
    """Return the member of an entry, or None if it cannot be read."""
    try:
        return msgspec.json.decode(payload, type=Member)
    except UNDECODABLE:
        return None


async def read_entries(jetstream: JetStream, names: Names, partitions: int) -> dict[str, StoredMessage]:
    """Return the newest messages of the members of an actor, and of the leases of its partitions.

    Args:
        jetstream: The client.
        names: The names of the actor, as one whole.
        partitions: The number of partitions.

    Returns:
        The messages by their key, without the name of the actor. Markers of removed entries are among them. Nothing, if there
        is no bucket: the next owner of a partition creates it.

    Raises:
        ApiError, PermissionDenied, TimeoutError: The bucket cannot be read now.
    """
    stream, prefix = f"KV_{names.lease_bucket}", f"$KV.{names.lease_bucket}.{names.actor}."
    info = await jetstream.find_stream(stream, subjects=f"{prefix}>")
    if info is None:
        return {}
    numbers = set(map(str, range(partitions)))
    keys = [subject.removeprefix(prefix) for subject in info.state.subjects]
    keys = [key for key in keys if key in numbers or key.startswith(f"{MEMBER}.")]
    found: dict[str, StoredMessage] = {}
    for start in range(0, len(keys), _READS):
        some = keys[start : start + _READS]
        reads = (jetstream.get_last(stream, prefix + key) for key in some)
        stored = await asyncio.gather(*reads)
        found.update((key, each) for key, each in zip(some, stored, strict=True) if each is not None)
    return found


def _subject(names: Names, holder: str) -> str:
    return f"$KV.{names.lease_bucket}.{names.actor}.{MEMBER}.{token_of(holder)}"
