"""The refusals of a repartition."""

from runtime.errors import ActorError, ConfigurationError


class Refused(ConfigurationError):
    """The actor cannot be repartitioned now, or not at all. Nothing has changed."""


class UnknownActor(ActorError):
    """The actor has never run here."""
