"""Options of a connection: one frozen struct, filled from the variables and contexts of natscli."""

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from runtime.bounds import Bounded, Seconds
from runtime.errors import ConfigurationError
from runtime.nats.context import FILES, context_path, read_context, resolve
from runtime.nats.credentials import Credentials
from runtime.nats.server_url import ServerUrl, parse_server_url, without_userinfo

DEFAULT_URL = "nats://127.0.0.1:4222"
DATA_DIRECTORY = ".actorloom"
"""The data directory of the nats-server that `actorloom run` starts, in the working directory."""
PUBLIC_API_VARIABLE = "ACTORLOOM_NATS_PUBLIC_API"

_VARIABLES = {
    **{name: f"NATS_{name.upper()}" for name in ("url", "creds", "nkey", "user", "password", "token")},
    **{name: f"NATS_{name.upper()}" for name in ("cert", "key", "ca")},
    "user_jwt": "NATS_JWT",
    "user_seed": "NATS_SEED",
}
SECRETS = ("password", "token", "user_jwt", "user_seed")
"""Fields that are never shown."""
IDENTITY = ("user", "creds", "nkey", "cert", "key", *SECRETS)
"""Fields that tell a server who the client is, and prove it."""


_INBOX_PREFIX = re.compile(r"[!-)+-\-/-=?-~]+(\.[!-)+-\-/-=?-~]+)*").fullmatch
"""Match tokens of printable ASCII without white space, dots and the wildcards."""


class ConnectionOptions(Bounded, frozen=True, kw_only=True):
    """The servers, credentials and intervals of a connection. Durations are seconds. `repr` shows no secret.

    `creds`, `nkey` (a seed), `cert`, `key` and `ca` are paths of files, which are read when the connection is opened.
    """

    url: str = DEFAULT_URL
    """One server, or several separated by commas."""
    name: str | None = None
    creds: str | None = None
    nkey: str | None = None
    user: str | None = None
    password: str | None = None
    token: str | None = None
    user_jwt: str | None = None
    """A JWT itself, not a file. With `user_seed` its seed; without, it is a bearer token."""
    user_seed: str | None = None
    cert: str | None = None
    key: str | None = None
    ca: str | None = None
    tls_first: bool = False
    """Begin with the TLS handshake, before the server's greeting, as a server with `handshake_first` wants it."""
    inbox_prefix: str = "_INBOX"
    connect_timeout: Seconds = 5.0
    ping_interval: Annotated[float, msgspec.Meta(ge=0.05, le=3600)] = 5.0
    """Two pings may be outstanding, so a silent server is noticed within 15 seconds."""
    reconnect_wait: Annotated[float, msgspec.Meta(ge=0.01, le=3600)] = 0.25
    loopback: bool = False
    """Pass requests for subjects that this connection serves to their receivers, without the server."""
    public_api: bool | None = None
    """True: use nats-py's public API only. None: decide by ACTORLOOM_NATS_PUBLIC_API."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if _INBOX_PREFIX(self.inbox_prefix) is None:
            raise ConfigurationError(
                f"inbox_prefix = {self.inbox_prefix[:40]!r}: write tokens of a subject, as in _INBOX.mine"
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> "ConnectionOptions":
        """Return options from natscli's context, overridden by its ``NATS_*`` variables, overridden by `overrides`.

        Args:
            environ: The environment; that of the process by default. ``NATS_CONTEXT`` names a context of natscli
                (``<config>/nats/context/<name>.json``).
            overrides: Fields by name; None leaves a field as it is.

        Raises:
            ConfigurationError: A named file does not exist, or the context is unreadable.
        """
        values = environment(os.environ if environ is None else environ)
        given = {field: (value, f"option {field}") for field, value in overrides.items() if value is not None}
        return cls.from_values({**values, **given})

    @classmethod
    def from_values(cls, values: Mapping[str, tuple[Any, str]]) -> "ConnectionOptions":
        """Return options from pairs of a value and its origin, by field. Errors name the origin.

        Raises:
            ConfigurationError: A named file does not exist.
        """
        fields: dict[str, Any] = {
            field: _existing(value, origin) if field in FILES else value for field, (value, origin) in values.items()
        }
        options = cls(**fields)
        try:
            _ = options.parsed_servers
        except ConfigurationError as error:
            raise ConfigurationError(f"{values['url'][1]}: {error}") from None
        return options

    @property
    def servers(self) -> list[str]:
        """The URLs of `url` as a list."""
        return [url.strip() for url in self.url.split(",") if url.strip()]

    @property
    def parsed_servers(self) -> list[ServerUrl]:
        """The servers of `url`, parsed.

        Raises:
            ConfigurationError: A URL is invalid, or there is none.
        """
        servers = [parse_server_url(url) for url in self.servers]
        if not servers:
            raise ConfigurationError("the URL of NATS is empty")
        return servers

    @property
    def needs_tls(self) -> bool:
        """Whether a URL, `tls_first`, `ca`, or a client certificate asks for TLS. It then applies to every server."""
        return bool(self.tls_first or self.cert or self.key or self.ca) or any(
            server.secure for server in self.parsed_servers
        )

    def credentials(self) -> Credentials | None:
        """Return the credentials by nkey, or None if the options have none. They are not read yet.

        As in natscli, a user and a password precede them.
        """
        if not (self.creds or self.nkey or self.user_jwt) or (self.user is not None and self.password is not None):
            return None
        return Credentials(self.creds, self.nkey, self.user_jwt, self.user_seed)

    @property
    def address(self) -> str:
        """The servers as text for people, without user, password and token."""
        return ", ".join(without_userinfo(url) for url in self.servers)

    def wants_public_api(self, environ: Mapping[str, str] | None = None) -> bool:
        """Return whether to use nats-py's public API only: `public_api`, else ACTORLOOM_NATS_PUBLIC_API=1."""
        if self.public_api is not None:
            return self.public_api
        return (os.environ if environ is None else environ).get(PUBLIC_API_VARIABLE, "") == "1"

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the TLS settings, or None if the options name no TLS file.

        Raises:
            ConfigurationError: A TLS file is unreadable, or only one of `cert` and `key` is set.
        """
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
    """Return the options from natscli's variables and the context that they name.

    Returns:
        Pairs of a value and its origin (a variable or a file), by field.

    Raises:
        ConfigurationError: The context is unreadable, or says what is not supported.
    """
    values: dict[str, tuple[Any, str]] = {}
    if context := environ.get("NATS_CONTEXT"):
        path = context_path(context, environ)
        values |= {field: (value, str(path)) for field, value in read_context(path, environ).items()}
    for field, variable in _VARIABLES.items():
        if value := environ.get(variable):
            values[field] = (resolve(field, value, variable, environ), variable)
    if environ.get("NATS_SOCKS_PROXY"):
        raise ConfigurationError("NATS_SOCKS_PROXY is set: connections through a proxy are not supported")
    return values


def _existing(value: str, origin: str) -> str:
    path = Path(value).expanduser()
    if not path.is_file():
        raise ConfigurationError(f"{origin} names the file {path}, which does not exist")
    return str(path)
