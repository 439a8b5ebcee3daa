"""What a connection raises beside `PublishError`: nobody there, not connected, refused, lost."""

from runtime.errors import ActorError, PublishError


class NoResponders(ActorError):
    """Nobody subscribes to the subject (status 503 of the server): nothing was executed."""


class NotConnected(PublishError):
    """There is no connection now; nothing was sent, nothing is kept for later."""


class PermissionDenied(PublishError):
    """The server refused this publish or subscription: the user's permissions do not allow the subject."""


class ConnectionLost(TimeoutError):
    """The connection ended while a reply was awaited: it will not come, and whether the request was executed is unknown.

    A `TimeoutError`, because what a caller may conclude is the same; only it is known sooner.
    """
