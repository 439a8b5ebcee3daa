"""The members of a partitioned actor: each process that runs it says so under ``<actor>.member.<process>``.

The entries are in the bucket of leases. A process repeats its entry, which expires soon after the process has ended.
"""

import math
from typing import Final

import msgspec

from runtime.nats.jetstream.client import JetStream
from runtime.wire import header_block
from runtime.wire.codec import UNDECODABLE
from runtime.wire.subjects import Names
from runtime.wire.tokens import token_of

_MARKER_TTL: Final = 1
"""Seconds for which the server keeps the marker of a member that has left."""
_REMOVED: Final = ("KV-Operation", "DEL")


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


def _subject(names: Names, holder: str) -> str:
    return f"$KV.{names.lease_bucket}.{names.actor}.member.{token_of(holder)}"
