"""Ids of clocks that are right or wrong, for tests."""

import uuid


def uuid7(at: float) -> str:
    """A UUIDv7 of a clock that says `at`, in unix seconds."""
    return str(uuid.UUID(int=int(at * 1000) << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & ((1 << 62) - 1)))
