"""The refusals of the tools that work on a stopped actor."""

from runtime.errors import ActorError, ConfigurationError


class Refused(ConfigurationError):
    """The tool cannot do it now, or not at all. Nothing has changed."""


class UnknownActor(ActorError):
    """The actor has never run here."""
