"""Buckets and partitions: which part of an actor a key belongs to.

The bucket of a key never changes. It is the hash by which nats-server itself fills in ``{{partition(64,n)}}`` in a subject
transform: FNV-1a with 32 bits, modulo 64. So the server and this package agree on it without asking each other. The
partition of a key is its bucket modulo the number of partitions, which is a power of two.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from runtime.bounds import MOST_PARTITIONS

BUCKETS: Final = MOST_PARTITIONS
"""Buckets of the keys of each actor: the most partitions that an actor can have."""

_OFFSET: Final = 0x811C9DC5
_PRIME: Final = 0x01000193
_MASK: Final = 0xFFFFFFFF


class Partition(NamedTuple):
    """One of the equal parts of an actor's keys."""

    total: int
    """The number of partitions of the actor: a power of two, `BUCKETS` at most."""
    number: int
    """Which of them this is, from 0 on."""

    @property
    def buckets(self) -> range:
        """The buckets of its keys."""
        return range(self.number, BUCKETS, self.total)


WHOLE: Final = Partition(1, 0)
"""The only partition of an actor that is not partitioned."""


@lru_cache(maxsize=65_536)
def bucket_of(token: str) -> int:
    """Return the bucket of a key, given its token."""
    value = _OFFSET
    for byte in token.encode():
        value = ((value ^ byte) * _PRIME) & _MASK
    return value % BUCKETS


def partition_of(token: str, total: int) -> int:
    """Return the number of the partition of a key, given its token and the number of partitions."""
    return bucket_of(token) % total if total > 1 else 0
