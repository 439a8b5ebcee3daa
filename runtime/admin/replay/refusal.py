"""The refusals of a replay."""

from runtime.errors import ActorError, ConfigurationError


class NotFound(ActorError):
    """There is no such actor, reaction, stream or replay, or no event to send."""


class Refused(ConfigurationError):
    """The replay cannot be begun, or cannot go on."""
