"""Failures of commands: an error message for people and an exit code for scripts."""

from typing import Final, NoReturn

import click

from runtime.errors import (
    ActorError,
    ConfigurationError,
    DeadlineExceeded,
    DeclarationError,
    NotDelivered,
    Overloaded,
    Rejected,
    RemoteError,
    RequestError,
)
from runtime.nats.errors import NoResponders, NotConnected
from runtime.wire.printable import printable

FAILED, USAGE, SERVICE_ERROR, NOT_FOUND, TIMEOUT = 1, 2, 3, 4, 5
"""The exit codes of failures."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, as a shell reports it."""

UNFINISHED: Final[list[str]] = []
"""Tasks and threads of the application that have not ended. Python would wait for them, so the process ends without it."""

KNOWN: Final = (ActorError, TimeoutError, OSError)
"""Errors that end a command with one message. Any other exception is a bug."""


class Failure(click.ClickException):
    """Ends the command with a message on stderr and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(printable(message))
        self.exit_code = code  # pyright: ignore[reportAttributeAccessIssue] - click reads it from the instance


def explained(error: BaseException) -> Failure:
    """Return `error` as a `Failure`. That of a file has the text ``path: No such file or directory``."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return Failure(f"{error.filename}: {error.strerror}", exit_code(error))
    return Failure(str(error) or type(error).__name__, exit_code(error))


def exit_code(error: BaseException) -> int:
    """Return the exit code for `error`."""
    match error:
        case ConfigurationError() | DeclarationError():
            return USAGE
        case NotDelivered() | NoResponders() | NotConnected():
            return NOT_FOUND
        case DeadlineExceeded() | TimeoutError():
            return TIMEOUT
        case RequestError():
            return SERVICE_ERROR
        case _:
            return FAILED


def described(error: BaseException) -> str:
    """Return an error of a request as one line: ``404 NotFound: Order not found``; another one with the name of its class."""
    text = " ".join(str(error).split())
    if isinstance(error, RequestError):
        kind = error.kind if isinstance(error, RemoteError) else type(error).__name__
        after = error.retry_after if isinstance(error, Overloaded | Rejected) else None
        return f"{error.code} {kind}: {text}" + (f"; retry after {after:g} s" if after is not None else "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def usage(message: str) -> NoReturn:
    """End the command with a usage error."""
    raise click.UsageError(message)
