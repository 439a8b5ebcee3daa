"""The error for the caller of a request that ended without a reply."""

from runtime.errors import DeadlineExceeded, NotDelivered, PublishError, RequestError
from runtime.nats.errors import ConnectionLost, NoResponders


def no_reply_error(subject: str, error: Exception) -> RequestError:
    """Return the error for the caller of a request that failed without a reply.

    Args:
        subject: The subject of the request, for the text.
        error: The `NoResponders`, `PublishError` or `TimeoutError` with which the request failed.

    Returns:
        `NotDelivered` if the request certainly reached no process, else `DeadlineExceeded`, whose outcome is unknown.
    """
    if isinstance(error, NoResponders):
        return NotDelivered(f"{subject}: no process serves it")
    if isinstance(error, ConnectionLost):
        return DeadlineExceeded(f"{subject}: the connection was lost before the reply")
    if isinstance(error, PublishError):
        return NotDelivered(f"{subject}: {error}")
    return DeadlineExceeded(f"{subject}: no reply in time")
