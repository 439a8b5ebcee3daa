"""Exceptions of an application as text: for logs, spans and replies.

An application may raise an exception whose `__str__` fails, whose text is a whole file or holds half a character, or whose
attributes raise when a stack trace is formatted. These functions never raise, so such an exception stays the failure of one
message.
"""

import logging
import traceback
from typing import Any, Final

MAX_TEXT: Final = 2000
"""Characters of the text of an exception that a log line or a span keeps."""

_MAX_TRACE: Final = 32_768
"""Characters of a stack trace. A longer one keeps its beginning and its end."""


def error_text(error: BaseException) -> str:
    """Return the text of an exception: valid Unicode, at most `MAX_TEXT` characters."""
    try:
        text = str.__getitem__(str(error), slice(MAX_TEXT + 1))
    except BaseException as raised:  # noqa: BLE001 - `__str__` is code of the application
        return f"(no text: its __str__ raised {type(raised).__name__})"
    if len(text) > MAX_TEXT:
        text = text[:MAX_TEXT] + "…"
    return text.encode(errors="replace").decode()


def stack_trace(error: BaseException) -> str:
    """Return the stack trace of an exception: valid Unicode of a bounded length."""
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException as raised:  # noqa: BLE001 - formatting runs code of the application
        frames = "".join(traceback.format_tb(error.__traceback__))
        text = f"{frames}{type(error).__name__} (no text: its formatting raised {type(raised).__name__})\n"
    if len(text) > _MAX_TRACE:
        text = f"{text[: _MAX_TRACE // 2]}\n…\n{text[-_MAX_TRACE // 2 :]}"
    return text.encode(errors="replace").decode()


def log_fault(
    logger: logging.Logger, message: str, *values: Any, error: BaseException | None, level: int = logging.ERROR
) -> None:
    """Log a message with the stack trace of `error`, if any. A formatter that raises for it gets the message alone."""
    try:
        logger.log(level, message, *values, exc_info=error, stacklevel=2)
    except BaseException as raised:  # noqa: BLE001 - a formatter of the application, or of the standard library
        logger.log(
            level, "%s (%s; its stack trace cannot be formatted: %s)",
            message % values, type(error).__name__, type(raised).__name__, stacklevel=2,
        )  # fmt: skip
