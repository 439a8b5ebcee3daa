"""The start of a reaction or of a follower: which of the events that its stream already has it receives."""

from datetime import UTC, datetime
from typing import Final

from runtime.errors import DeclarationError

FIRST: Final = "first"
"""The reaction begins with the oldest event of the stream."""
NEW: Final = "new"
"""The reaction begins with the events that are stored after its first start."""

_YEARS: Final = range(1970, 2262)
"""The years that the server can count in nanoseconds."""


def read_since(since: object, label: str) -> str:
    """Return `since` as it is compared and stored: ``first``, ``new`` or a time in UTC.

    Args:
        since: ``"first"``, ``"new"``, or a time of ISO 8601 with a zone: ``"2026-01-01T00:00:00Z"``.
        label: The name of the reaction, or of the caller, in error texts.

    Raises:
        DeclarationError: `since` is none of these.
    """
    if since in (FIRST, NEW):
        return str(since)
    wanted = f'use "{FIRST}", "{NEW}" or a time with a zone, as in "2026-01-01T00:00:00Z"'
    if not isinstance(since, str):
        raise DeclarationError(f"{label}: since={since!r}: {wanted}")
    try:
        time = datetime.fromisoformat(since)
        if time.tzinfo is None:
            raise DeclarationError(f"{label}: since={since!r} has no zone: {wanted}")
        time = time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise DeclarationError(f"{label}: since={since!r}: {wanted}") from None
    if time.year not in _YEARS:
        raise DeclarationError(f"{label}: since={since!r}: the year must be from {_YEARS[0]} to {_YEARS[-1]}")
    return time.replace(tzinfo=None).isoformat() + "Z"
