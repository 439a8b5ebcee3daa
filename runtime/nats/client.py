"""nats-py's client, which sends credentials to the right server only, and over TLS if TLS is wanted.

nats-py continues without TLS if a server does not offer it, it does not decode the user and password of a URL, and one
server that is silent may take the time of all. It closes for good if credentials expire, and it reads a broken credentials
file for ever. `NatsClient` overrides five of its private methods. Four are called for each attempt to connect, in this
order, and the last for an error that the server reports:

- `_connect_to_server` opens the socket;
- `_process_connect_init` exchanges INFO, CONNECT, PING and PONG;
- `_process_info` reads the server's INFO;
- `_connect_command` returns the CONNECT, with the credentials;
- `_process_err` ends or replaces the connection.
"""

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any, Final

import nats.errors
from nats.aio.client import Client, Srv

from runtime.errors import ConfigurationError
from runtime.forks import close_in_children
from runtime.nats.errors import is_authentication_lost, is_authorization_violation
from runtime.nats.options import ConnectionOptions
from runtime.nats.server_url import Login
from runtime.nats.server_version import too_old


class ServerTooOld(nats.errors.Error):
    """The server has a version that the connection does not use. No CONNECT was sent."""


class TlsNotOffered(nats.errors.Error):
    """The server offers no TLS, and the options ask for it. No CONNECT was sent."""


_OVERRIDDEN: Final = (
    "_connect_to_server",
    "_process_connect_init",
    "_process_info",
    "_connect_command",
    "_process_err",
)


class NatsClient(Client):
    """A client for the servers and credentials of `options`, not yet connected.

    Raises:
        ConfigurationError: The installed nats-py has other methods, so TLS could not be enforced.
    """

    def __init__(self, options: ConnectionOptions) -> None:
        if not all(hasattr(Client, method) for method in _OVERRIDDEN):
            raise ConfigurationError("this version of nats-py is not supported: install the required version")
        super().__init__()
        self._needs_tls = options.needs_tls
        self._own_login = Login(options.user, options.password, options.token)
        if options.user is not None and options.password is None:  # as natscli has it: "user or token"
            self._own_login = Login(token=options.token or options.user)
        servers = options.parsed_servers
        self._logins = {server.authority: server.login for server in servers if server.login is not None}
        self._known = {server.authority for server in servers}
        self._share = options.connect_timeout / len(servers)
        """Seconds that one attempt may take, so that each server is tried within the timeout of all."""
        self._attempt_ends = 0.0
        self.credentials = options.credentials()
        """The credentials by nkey, as they were read for the last attempt to connect; None if there are none."""
        self.error_line = b""
        """The last ``-ERR`` line of the server, for the case of the subjects in it, which nats-py lowers."""
        self.newer_servers_only = False
        """Whether to refuse servers that are too old for actors."""
        close_in_children(self)

    @property
    def greeted(self) -> bool:
        """Whether any server has sent its INFO."""
        return bool(self._server_info)

    def descriptors(self) -> Iterator[int]:
        """Return the descriptor of the open socket, if there is one."""
        writer: Any = getattr(self._transport, "_io_writer", None)
        descriptor = writer.get_extra_info("socket").fileno() if writer is not None else -1
        if descriptor >= 0:
            yield descriptor

    def abort(self) -> None:
        """End the open socket, if there is one. Nothing is written any more, and the client connects again unless it is closed."""
        writer: Any = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def _connect_to_server(self, s: Srv) -> None:
        self._attempt_ends = asyncio.get_running_loop().time() + self._share
        await self._within_share(super()._connect_to_server(s), s)

    async def _process_connect_init(self) -> None:
        await self._within_share(super()._process_connect_init(), self._current_server)

    async def _within_share(self, step: Awaitable[None], server: Srv | None) -> None:
        try:
            async with asyncio.timeout_at(self._attempt_ends):
                await step
        except TimeoutError as error:
            address = server.uri.netloc if server is not None else "the server"
            raise TimeoutError(f"no answer from {address} within {self._share:g} s") from error

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # A server with `allow_non_tls` offers TLS and does not require it; nats-py looks at `tls_required` only.
        if initial_connection and self._needs_tls and info.get("tls_available"):
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    def _connect_command(self) -> bytes:
        server = self._current_server
        address = server.uri.netloc if server is not None else ""
        if self._needs_tls and not _is_encrypted(self._transport):
            raise TlsNotOffered(f"{address} offers no TLS, which the options ask for: no credentials were sent")
        if self.newer_servers_only and (reason := too_old(str(self._server_info.get("version", "?")))):
            raise ServerTooOld(f"{address}: {reason}")
        login = self._login(address)
        self.options.update(user=login.user, password=login.password, token=login.token)
        if any(part is not None for part in login):
            self._auth_configured = True
        if (credentials := self.credentials) is not None:
            credentials.read()
            jwt = credentials.jwt
            self._user_jwt_cb = None if jwt is None else jwt.encode
            self._public_nkey = credentials.public_key
            self._signature_cb = credentials.sign
            self._auth_configured = True
        return super()._connect_command()

    async def _process_err(self, err_msg: str) -> None:
        # nats-py would close for good. The credentials may have been replaced: a new attempt reads them anew.
        if self.is_connected and is_authentication_lost(err_msg):
            error = nats.errors.Error(f"nats: {err_msg}")
            if not is_authorization_violation(error):
                await self._error_cb(error)
            await self._process_op_err(error)
            return
        await super()._process_err(err_msg)

    def _login(self, address: str) -> Login:
        """Return the login for a server: that of its URL, else that of the options.

        A server that another one has announced gets the login of the first URL that has one.
        """
        own = self._logins.get(address)
        if own is None and address not in self._known and not any(self._own_login):
            own = next(iter(self._logins.values()), None)
        return own or self._own_login


def _is_encrypted(transport: Any) -> bool:
    """Return whether nats-py's transport, of TCP or of WebSocket, uses TLS now."""
    writer = getattr(transport, "_io_writer", None)
    if writer is not None:
        return writer.get_extra_info("ssl_object") is not None
    return bool(getattr(transport, "_using_tls", False))
