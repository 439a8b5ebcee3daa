"""The versions of nats-server that actors can use."""

from typing import Final

MIN_VERSION: Final = (2, 14)
"""The first version that can reset a consumer, as the owner of keys does. Timers need 2.12, and schedules 2.14."""

REMEDY: Final = "install 2.14 or later: actors with state need it"
"""What to do about an older server."""


def too_old(version: str) -> str:
    """Return why a server of this version cannot be used; empty if it can."""
    numbers = tuple(int(part) for part in version.split("-", maxsplit=1)[0].split(".")[:2] if part.isdecimal())
    return f"nats-server {version} is too old" if numbers < MIN_VERSION else ""
