"""Where and how to connect: one frozen struct, filled from natscli's variables and contexts."""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from runtime.errors import ConfigurationError

DEFAULT_URL = "nats://127.0.0.1:4222"
PUBLIC_API_VARIABLE = "ACTORLOOM_NATS_PUBLIC_API"

_VARIABLES = ("url", "creds", "nkey", "user", "password", "token", "cert", "key", "ca")
_FILES = ("creds", "nkey", "cert", "key", "ca")
SECRETS = ("password", "token")
"""Fields that nobody is to see."""


class ConnectionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach and authenticate to NATS. Durations are seconds; files are paths, read when connecting.

    `url` may list several servers, separated by commas. `nkey` is the file of an nkey seed. `repr` shows no secret.
    """

    url: str = DEFAULT_URL
    name: str | None = None
    creds: str | None = None
    nkey: str | None = None
    user: str | None = None
    password: str | None = None
    token: str | None = None
    cert: str | None = None
    key: str | None = None
    ca: str | None = None
    inbox_prefix: str = "_INBOX"
    connect_timeout: float = 5.0
    ping_interval: float = 5.0  # with two outstanding: a server that went silent is noticed within 15 s
    reconnect_wait: float = 0.25
    loopback: bool = False  # requests to what this very connection serves are handed over without the server
    public_api: bool | None = None  # True: nats-py's public API only; None: as the environment says

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> "ConnectionOptions":
        """Return options from `overrides` (those not None), then natscli's `NATS_*` variables, then its context.

        `NATS_CONTEXT` names a file of natscli (`<config>/nats/context/<name>.json`). Raises `ConfigurationError` where
        a file that is named does not exist, or the context cannot be read.
        """
        values = environment(os.environ if environ is None else environ)
        given = {field: (value, f"option {field}") for field, value in overrides.items() if value is not None}
        return cls.of({**values, **given})

    @classmethod
    def of(cls, values: Mapping[str, tuple[Any, str]]) -> "ConnectionOptions":
        """Return options from values and their origins, which errors name.

        Raises `ConfigurationError` where a file that is named does not exist.
        """
        fields: dict[str, Any] = {
            field: _existing(value, origin) if field in _FILES else value for field, (value, origin) in values.items()
        }
        return cls(**fields)

    @property
    def servers(self) -> list[str]:
        """The URLs of `url`, one each."""
        return [url.strip() for url in self.url.split(",") if url.strip()]

    @property
    def address(self) -> str:
        """The servers as text for people: without user, password or token."""
        return ", ".join(without_userinfo(url) for url in self.servers)

    def wants_public_api(self, environ: Mapping[str, str] | None = None) -> bool:
        """Whether only nats-py's public API is to be used (`public_api`, else ACTORLOOM_NATS_PUBLIC_API=1)."""
        if self.public_api is not None:
            return self.public_api
        return (os.environ if environ is None else environ).get(PUBLIC_API_VARIABLE, "") == "1"

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the TLS settings, or None where the options name none. Raises `ConfigurationError`."""
        if not (self.cert or self.key or self.ca):
            return None
        if bool(self.cert) != bool(self.key):
            raise ConfigurationError("a TLS client certificate needs both cert (NATS_CERT) and key (NATS_KEY)")
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigurationError(f"cannot read the TLS files (cert, key, ca): {error}") from error
        return context

    def __repr__(self) -> str:
        shown: list[str] = []
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if value is None:
                continue
            if field == "url":
                value = self.address
            elif field in SECRETS:
                value = "***"
            shown.append(f"{field}={value!r}")
        return f"ConnectionOptions({', '.join(shown)})"


def environment(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """Return what natscli's variables, and the context that they name, say, with the variable or file that said it.

    Raises `ConfigurationError` where the context cannot be read.
    """
    values: dict[str, tuple[Any, str]] = {}
    if context := environ.get("NATS_CONTEXT"):
        path = _context_path(context, environ)
        values |= {field: (value, str(path)) for field, value in _read_context(path).items()}
    for field in _VARIABLES:
        variable = f"NATS_{field.upper()}"
        if value := environ.get(variable):
            values[field] = (value, variable)
    return values


def without_userinfo(url: str) -> str:
    """Return a server's URL without user, password and token."""
    if "@" not in url:
        return url
    if "://" not in url:
        return url.rsplit("@", 1)[1]
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[1]))


def _context_path(name: str, environ: Mapping[str, str]) -> Path:
    config = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".config")
    return Path(config) / "nats" / "context" / f"{name}.json"


def _read_context(path: Path) -> dict[str, Any]:
    try:
        context = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise ConfigurationError(f"NATS_CONTEXT names {path}, which cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"NATS context {path} is not a JSON object: {error}") from error
    wanted = (*_VARIABLES, "inbox_prefix")
    return {field: value for field in wanted if isinstance(value := context.get(field), str) and value}


def _existing(value: str, origin: str) -> str:
    path = Path(value).expanduser()
    if not path.is_file():
        raise ConfigurationError(f"{origin} names the file {path}, which does not exist")
    return str(path)
