"""What each failure is worth: its text for people and its exit code for scripts."""

from typing import Final, NoReturn

import click

from runtime.errors import (
    ActorError,
    ConfigurationError,
    DeadlineExceeded,
    DeclarationError,
    NotDelivered,
    RequestError,
)
from runtime.nats.errors import NoResponders, NotConnected

FAILED, USAGE, SERVICE_ERROR, NOBODY, TIMEOUT = 1, 2, 3, 4, 5
"""The exit codes beside 0."""

KNOWN: Final = (ActorError, TimeoutError, OSError)
"""Failures that are told in one message; anything else is a fault of ours."""


class Failure(click.ClickException):
    """Ends the command with a message on stderr and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # pyright: ignore[reportAttributeAccessIssue] - click reads it from the instance


def explained(error: BaseException) -> Failure:
    """Return the failure that stands for `error`."""
    return Failure(str(error) or type(error).__name__, exit_code(error))


def exit_code(error: BaseException) -> int:
    """Return what `error` exits with."""
    match error:
        case ConfigurationError() | DeclarationError():
            return USAGE
        case NotDelivered() | NoResponders() | NotConnected():
            return NOBODY
        case DeadlineExceeded() | TimeoutError():
            return TIMEOUT
        case RequestError():
            return SERVICE_ERROR
        case _:
            return FAILED


def usage(message: str) -> NoReturn:
    """End the command: it was called wrongly."""
    raise click.UsageError(message)
