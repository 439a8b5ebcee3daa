"""Message ids with a chosen time, for tests of clocks that are wrong."""

import uuid


def uuid7(at: float) -> str:
    """Return a UUIDv7 created at `at`, in Unix seconds."""
    return str(uuid.UUID(int=int(at * 1000) << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & ((1 << 62) - 1)))
