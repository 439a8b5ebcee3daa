"""A context of natscli: each of its fields is used, has no effect on a connection, or is refused by name."""

import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any, Final

import msgspec

from runtime.errors import ConfigurationError

FILES: Final = ("creds", "nkey", "cert", "key", "ca")
"""Fields with the path of a file."""
_LITERALS: Final = ("password", "token", "user_jwt", "user_seed")
_TEXTS: Final = ("url", "user", "inbox_prefix", *_LITERALS, *FILES)
_WITHOUT_EFFECT: Final = ("name", "description", "color_scheme")
_REFERENCE: Final = re.compile(r"(file|op|nsc|env|data):", re.IGNORECASE)
"""The start of a reference that natscli resolves."""


def context_path(name: str, environ: Mapping[str, str]) -> Path:
    """Return the path of the context with that name."""
    config = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".config")
    return Path(config) / "nats" / "context" / f"{name}.json"


def read_context(path: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of a context, by field of `ConnectionOptions`. Empty fields are left out.

    Raises:
        ConfigurationError: The file is unreadable, or it has a field that cannot be used. The message names the field.
    """
    try:
        context = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise ConfigurationError(f"NATS_CONTEXT names {path}, which cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"NATS context {path} is not a JSON object: {error}") from error
    options: dict[str, Any] = {}
    for field, value in context.items():
        if value in ("", None, False, [], 0) or field in _WITHOUT_EFFECT:
            continue
        if field == "tls_first":
            if value is not True:
                raise ConfigurationError(f"NATS context {path}: tls_first must be true or false")
            options[field] = True
        elif field not in _TEXTS:
            raise ConfigurationError(f"NATS context {path}: the field {field!r} is not supported: remove it")
        elif not isinstance(value, str):
            raise ConfigurationError(f"NATS context {path}: {field} must be text")
        else:
            options[field] = resolve(field, value, str(path), environ)
    return options


def resolve(field: str, value: str, origin: str, environ: Mapping[str, str]) -> str:
    """Return the value of a field, after the expansion and the references that natscli knows.

    Raises:
        ConfigurationError: It is a reference that is not supported, or an unset variable.
    """
    reference = _REFERENCE.match(value)
    scheme = reference[1].lower() if reference is not None else ""
    rest = value[len(scheme) + 1 :].removeprefix("//")
    if field in FILES:
        if scheme not in ("", "file"):
            raise ConfigurationError(f"{origin}: {field} is a reference {scheme}:, which is not supported: name a file")
        return Template(rest if scheme else value).safe_substitute(environ)
    if field in _LITERALS and scheme:
        if scheme != "env":
            raise ConfigurationError(
                f"{origin}: {field} is a reference {scheme}:, which is not supported: use env://NAME"
            )
        if not (found := environ.get(rest)):
            raise ConfigurationError(f"{origin}: {field} names the variable {rest}, which is not set")
        return found
    return value
