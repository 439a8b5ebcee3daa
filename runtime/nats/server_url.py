"""The URL of a server: its parts, with user, password and token decoded as natscli decodes them."""

from typing import Final, NamedTuple
from urllib.parse import unquote

from runtime.errors import ConfigurationError

_PORTS: Final = {"nats": 4222, "tls": 4222, "ws": None, "wss": None}
"""The schemes of servers, with their default ports; None for those of the WebSocket scheme."""


class Login(NamedTuple):
    """What a client sends to a server: a user and a password, or a token. All three may be None."""

    user: str | None = None
    password: str | None = None
    token: str | None = None


class ServerUrl(NamedTuple):
    """The parts of a server's URL."""

    scheme: str
    """One of nats, tls, ws and wss."""
    authority: str
    """Host and port, without user and password."""
    path: str
    """The path of a WebSocket URL; empty for other schemes."""
    login: Login | None
    """The user, password or token of the URL; None if it has none."""

    @property
    def secure(self) -> bool:
        """Whether the scheme asks for TLS."""
        return self.scheme in ("tls", "wss")

    @property
    def without_login(self) -> str:
        """The URL without user, password and token."""
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_server_url(url: str) -> ServerUrl:
    """Return the parts of `url`. Without a scheme it is a ``nats://`` URL.

    User, password and token are percent-decoded. They end at the last ``@``, so a password may also contain ``/``,
    ``#``, ``:`` and ``@`` as they are. A user without a password is a token.

    Raises:
        ConfigurationError: The URL is invalid. The message shows neither user nor password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "nats", url
    scheme = scheme.lower()
    if scheme not in _PORTS:
        raise ConfigurationError(
            f"the server URL {without_userinfo(url)} has an unknown scheme: use {', '.join(_PORTS)}"
        )
    path = ""
    if scheme in ("ws", "wss"):
        rest, slash, path = rest.partition("/")
        path = slash + path
    userinfo, at, host = rest.rpartition("@")
    if scheme not in ("ws", "wss"):
        host = host.rstrip("/")
    return ServerUrl(scheme, _authority(url, host, _PORTS[scheme]), path, _login(url, userinfo) if at else None)


def without_userinfo(url: str) -> str:
    """Return the text of a server's URL without user, password and token. The URL may be invalid."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url.rpartition("@")[2]
    return scheme + separator + rest.rpartition("@")[2]


def _authority(url: str, text: str, default_port: int | None) -> str:
    if text.startswith("["):
        host, bracket, port = text.partition("]")
        host += bracket
        valid = bool(bracket) and len(host) > 2 and (not port or port.startswith(":"))
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
        valid = bool(host) and not any(letter in host for letter in " /?#[]\\")
    if not valid:
        raise ConfigurationError(f"the server URL {without_userinfo(url)} has no valid host")
    if not port:
        return host if default_port is None else f"{host}:{default_port}"
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigurationError(
            f"the server URL with the host {host} has no valid port (write a comma in a password as %2C)"
        )
    return f"{host}:{port}"


def _login(url: str, userinfo: str) -> Login | None:
    user, colon, password = userinfo.partition(":")
    try:
        user, password = (unquote(part, errors="strict") for part in (user, password))
    except UnicodeDecodeError:
        raise ConfigurationError(
            f"the server URL {without_userinfo(url)} has a user or password that is not UTF-8"
        ) from None
    if colon:
        return Login(user=user, password=password)
    return Login(token=user) if user else None
