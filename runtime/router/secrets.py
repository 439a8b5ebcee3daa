"""Secret files of targets: passwords, tokens, certificates and keys, in the one directory that the environment names.

A target names its files only, so rules and targets can be shown and stored. A file is read for each use: a new secret needs no restart.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from runtime.errors import ConfigurationError

VARIABLE: Final = "ACTORLOOM_SECRETS"
"""The environment variable with the path of the directory."""

LARGEST: Final = 65_536
"""Bytes of a file at most."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}").fullmatch


def is_name(name: str) -> bool:
    """Return whether a text can be the name of a secret file: letters, digits, ``_``, ``.`` and ``-``, without a dot in front."""
    return _NAME(name) is not None


class Secrets:
    """The files of a directory.

    Args:
        directory: The path; None if there is no directory, so that each use fails.
    """

    __slots__ = ("_directory",)

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Secrets":
        """Return the files of the directory that `VARIABLE` names."""
        path = environment.get(VARIABLE, "")
        return cls(Path(path) if path else None)

    def path(self, name: str) -> Path:
        """Return the path of a file, without symbolic links.

        A link may point to another file of the directory, as those of Kubernetes do, and not out of it.

        Raises:
            ConfigurationError: There is no such file, or it is outside of the directory.
        """
        if self._directory is None:
            raise ConfigurationError(f"secret {name!r}: set {VARIABLE} to the directory of the secret files")
        if not is_name(name):
            raise ConfigurationError(f"secret {name[:80]!r}: write the name of a file in {VARIABLE}, without a path")
        try:
            root = self._directory.resolve(strict=True)
            found = (root / name).resolve(strict=True)
        except OSError as error:
            raise ConfigurationError(f"secret {name!r}: {error.strerror} (in {VARIABLE})") from None
        if not found.is_relative_to(root) or not found.is_file():
            raise ConfigurationError(f"secret {name!r} is not a file in {VARIABLE}")
        return found

    def read(self, name: str) -> str:
        """Return the text of a file, without the line break at its end.

        Raises:
            ConfigurationError: There is no such file, or it is empty, too large, or has more than one line of printable text. The
                error does not contain the text.
        """
        try:
            with self.path(name).open("rb") as file:
                content = file.read(LARGEST + 1)
            text = content.decode().rstrip("\r\n")
        except OSError as error:
            raise ConfigurationError(f"secret {name!r}: {error.strerror} (in {VARIABLE})") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"secret {name!r} is not text in UTF-8") from None
        if not text or len(content) > LARGEST or not text.isprintable():
            raise ConfigurationError(f"secret {name!r} is not one line of 1 to {LARGEST} bytes of printable text")
        return text
