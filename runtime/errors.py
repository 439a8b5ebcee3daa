"""The errors of Actorloom, in one tree.

ActorError
├ DeclarationError     a wrong declaration; raised at import
├ ConfigurationError   a setting, or what stands on the server, that we cannot work with
├ RequestError         .executed: True, False, or None for unknown
│ ├ NotDelivered         False: nobody is there; safe to retry
│ │ └ CircuitOpen          False: not sent, after failures in a row
│ ├ Overloaded           False: the mailbox is full
│ ├ DeadlineExceeded     None: unknown; retry under the same id
│ ├ CallCycle            False
│ └ RemoteError          code, kind, detail
│   ├ Rejected             False: the domain says no (subclass it)
│   │ └ NotFound             False: 404
│   ├ InvalidMessage       False
│   └ HandlerFailed        None
├ Retry                a reaction asks for another attempt
├ PublishError         not acknowledged
└ CodecError
"""

from typing import ClassVar, NoReturn


class ActorError(Exception):
    """The root of all errors raised by this package."""


class DeclarationError(ActorError):
    """A message, handler or actor is declared wrongly. Raised at import, before anything is sent."""


class ConfigurationError(ActorError):
    """A setting, or a stream or consumer that stands on the server, is one we cannot work with."""


class RequestError(ActorError):
    """A query or command did not succeed.

    `executed` is False where the handler certainly did not take effect (a retry cannot repeat anything), True where it
    did, None where that is unknown: retry a command under the same id (`retry()`), which cannot take effect twice.
    """

    code: int = 500
    executed: bool | None = None
    remote: bool = False
    """Whether it came from the wire: a handler that lets a nested call's error pass has failed itself."""


class NotDelivered(RequestError):
    """Nobody serves this subject, or the connection is down: nothing was executed."""

    code = 503
    executed = False


class CircuitOpen(NotDelivered):
    """Not sent: the target did not answer several times in a row, and is left alone for a while."""


class Overloaded(RequestError):
    """The mailbox of the actor is full (429); try again after `retry_after` seconds."""

    code = 429
    executed = False

    def __init__(self, message: str, retry_after: float = 0.1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(RequestError):
    """No answer before the deadline (408). Whether it was executed is unknown unless the actor itself refused it."""

    code = 408

    def __init__(self, message: str, executed: bool | None = None) -> None:
        super().__init__(message)
        self.executed = executed


class CallCycle(RequestError):
    """The call chain came back to a key that is busy with it (508); the message names the path."""

    code = 508
    executed = False


class RemoteError(RequestError):
    """The actor answered with an error: `code` (the wire contract's), `kind` (its name) and the text."""

    kinds: ClassVar[dict[str, "type[RemoteError]"]] = {}

    def __init__(self, message: str, *, code: int | None = None, kind: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.kind = kind or type(self).__name__

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # First come, first served: an application's class of the same name cannot take a built-in's place.
        RemoteError.kinds.setdefault(cls.__name__, cls)


class Rejected(RemoteError):
    """The domain says no (409): the command had no effect. Subclass it for refusals that callers tell apart."""

    code = 409
    executed = False


class NotFound(Rejected):
    """There is no such thing (404)."""

    code = 404


class InvalidMessage(RemoteError):
    """The message does not fit its contract (400); the text names the field."""

    code = 400
    executed = False


class HandlerFailed(RemoteError):
    """The handler raised (500). Its text stays in the actor's log and span."""

    code = 500


class Retry(ActorError):
    """Raised in a reaction: not now; deliver the event again after a growing delay (`after` seconds if given)."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class PublishError(ActorError):
    """A message was not sent, or the server did not acknowledge it.

    Args:
        message: The reason.
        err_code: JetStream's error code if a stream refused the message, else 0.
    """

    def __init__(self, message: str, err_code: int = 0) -> None:
        super().__init__(message)
        self.err_code = err_code


class CodecError(ActorError):
    """Bytes that are not what they should be, or a value that cannot be put into bytes."""


def not_found(message: str) -> NoReturn:
    """Raise `NotFound`; an expression, so that `return self.state or not_found("…")` reads as it is meant."""
    raise NotFound(message)


def from_wire(code: int, kind: str, message: str, executed: bool | None, retry_after: float | None) -> RequestError:
    """Return the exception that stands for an error reply."""
    error: RequestError
    if code == 429:
        error = Overloaded(message, retry_after if retry_after is not None else 0.1)
    elif code == 408:
        error = DeadlineExceeded(message)
    elif code == 508:
        error = CallCycle(message)
    elif code == 503:
        error = NotDelivered(message)
    else:
        known = RemoteError.kinds.get(kind) or {400: InvalidMessage, 404: NotFound, 409: Rejected}.get(code)
        # A subclass may have its own constructor: it is not called, only its type tells the caller what happened.
        remote = Exception.__new__(known or HandlerFailed, message)
        remote.args = (message,)
        remote.code = code
        remote.kind = kind
        error = remote
    error.executed = executed
    error.remote = True
    return error
