"""Errors of a connection in addition to `PublishError`, and the reading of the server's ``-ERR`` messages.

The NATS protocol has no error codes: an ``-ERR`` is a line of text. This module is the only one that reads these texts.
"""

import re
from typing import Final

from runtime.errors import ActorError, PublishError

_PERMISSIONS_VIOLATION: Final = "permissions violation for "
_REFUSED_SUBJECT: Final = re.compile(r'for (publish|subscription) to "([^"]*)"', re.IGNORECASE)
_PREFIXES: Final = (
    "_INBOX.",
    "$JS.ACK.",
    "$JS.API.CONSUMER.MSG.NEXT.",
    "$JS.API.STREAM.INFO.",
    "$JS.API.",
    "$KV.",
    "$SRV.",
)
_AUTHORIZATION_VIOLATION: Final = "authorization violation"
_AUTHENTICATION_LOST: Final = re.compile(r"authentication (expired|revoked)|" + _AUTHORIZATION_VIOLATION, re.IGNORECASE)


class NoResponders(ActorError):
    """The subject has no subscriber (status 503 of the server): nothing was executed."""


class NotConnected(PublishError):
    """There is no connection now. The message was not sent and is not kept for later."""


class PermissionDenied(PublishError):
    """The server refused a publish or a subscription: the user's permissions do not allow the subject.

    `operation` is "publish" or "subscription", and `subject` is as the server names it. On nats-py's public API it is in lower
    case. Both are empty if the server names neither.
    """

    def __init__(self, message: str, operation: str = "", subject: str = "") -> None:
        super().__init__(message)
        self.operation = operation
        self.subject = subject


class ConnectionLost(TimeoutError):
    """The connection ended before the reply came; whether the request was executed is unknown.

    This is a `TimeoutError` because a caller may draw the same conclusions from both, only earlier from this one.
    """


def permission_denied(error: Exception, line: bytes = b"") -> PermissionDenied | None:
    """Return the refusal by permissions that nats-py reports as `error`, or None if `error` is another one.

    Args:
        error: The error of nats-py, whose text is in lower case.
        line: The last ``-ERR`` line of the server. It is used if it has the same text.
    """
    text = str(error).removeprefix("nats: ")
    if _PERMISSIONS_VIOLATION not in text:
        return None
    sent = line.decode("utf-8", "replace").removeprefix("-ERR").strip().strip("'")
    if sent.lower() == text:
        text = sent
    found = _REFUSED_SUBJECT.search(text)
    operation, subject = (found[1].lower(), _restored(found[2])) if found is not None else ("", "")
    return PermissionDenied(f"the server refused: {text}", operation, subject)


def _restored(subject: str) -> str:
    """Return a subject with the usual prefixes of NATS in their own case, in case that nats-py has lowered it."""
    for prefix in _PREFIXES:
        if subject.startswith(prefix.lower()):
            return prefix + subject[len(prefix) :]
    return subject


def is_authorization_violation(error: Exception) -> bool:
    """Return whether the server refused the credentials of a connection that is being opened."""
    return _AUTHORIZATION_VIOLATION in str(error).lower()


def is_authentication_lost(text: str) -> bool:
    """Return whether the server ends an open connection because its credentials have expired or were withdrawn."""
    return _AUTHENTICATION_LOST.search(text) is not None
