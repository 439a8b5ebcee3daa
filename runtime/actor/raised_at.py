"""The line of an application that an error comes from."""

import os
import sysconfig
import traceback
from pathlib import Path

_LIBRARIES = tuple(
    os.path.realpath(place) + os.sep
    for place in (
        *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
        Path(__file__).parents[1],
    )
)
"""The directories of Python, of installed packages and of this library."""


def raised_at(error: BaseException) -> str:
    """Return the place of an error, as text: the file, and the line of the innermost call that the application made.

    Args:
        error: An error that was raised. If no call was made by the application, the place is the line that raised it.

    Returns:
        ``<file>, line <number>``; for an invalid syntax the line that has it.
    """
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "unknown line"
    frame = next((frame for frame in reversed(frames) if not is_library(frame.filename)), frames[-1])
    return f"{frame.filename}, line {frame.lineno}"


def is_library(file: str) -> bool:
    """Return whether a file belongs to Python, to an installed package or to this library, and so not to the application."""
    return file.startswith("<") or os.path.realpath(file).startswith(_LIBRARIES)
