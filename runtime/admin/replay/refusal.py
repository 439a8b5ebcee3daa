"""The refusals of a replay."""

from runtime.errors import ActorError, ConfigurationError


class NotFound(ActorError):
    """There is no such actor, reaction, stream or replay, or no event to send."""


class Refused(ConfigurationError):
    """The replay cannot be begun, or cannot go on."""


def taken(name: str) -> Refused:
    """Return the refusal of a new replay under a name that exists."""
    return Refused(f"a replay {name} exists: use another name, or go on with it by `actorloom replay resume {name}`")
