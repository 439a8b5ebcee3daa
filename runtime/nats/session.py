"""The life of one nats-py client: opened, disconnected and reconnected, closed for good with a reason."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import nats.errors

from runtime.errors import ConfigurationError
from runtime.nats.client import NatsClient, TlsNotOffered
from runtime.nats.credentials import Credentials, UnusableCredentials
from runtime.nats.errors import NotConnected, PermissionDenied, is_authorization_violation, permission_denied
from runtime.nats.fast import close_failed_handshake
from runtime.nats.options import ConnectionOptions
from runtime.nats.server_time import SUBJECT
from runtime.wire.server_clock import ServerClock

logger = logging.getLogger("actorloom.nats")

_MAX_LOGGED = 256
"""Refused subjects that are remembered as logged."""
_CLOSE_TIMEOUT = 2.0
"""Seconds that nats-py gets to close its connection."""
_END_TIMEOUT = 0.5
"""The same without a connection. nats-py waits for ever for the end of a TLS handshake that it has given up."""
_EXPIRY_MARGIN = 5.0
"""Seconds before the expiry of credentials at which they have to be replaced; a tenth of their lifetime if that is less."""
_LONGEST_PAUSE = 60.0
"""Seconds between two looks at the clock, which may be set, or stand still while the machine is suspended."""


class Session:
    """Opens, watches and closes one nats-py client.

    The owner adds its callbacks to the lists `on_disconnect`, `on_reconnect`, `on_close`, `on_error` and
    `on_expiring`. They are called
    in order and must not raise.

    Args:
        client: The client, not yet connected.
        options: The servers and credentials.
        name: The name of the connection, which the server shows.
        stop: Awaited before the client is closed, and after it has closed by itself.
        clock: The clock of the server.
    """

    def __init__(
        self,
        client: NatsClient,
        options: ConnectionOptions,
        name: str,
        stop: Callable[[], Awaitable[None]],
        clock: ServerClock,
    ) -> None:
        self.address: tuple[str, int] = ("", 0)
        """Host and port of the server; while disconnected those of the last one."""
        self.on_disconnect: list[Callable[[], None]] = []
        self.on_reconnect: list[Callable[[], None]] = []
        self.on_close: list[Callable[[], None]] = []
        self.on_error: list[Callable[[Exception], None]] = []
        self.on_expiring: list[Callable[[str], None]] = []
        self._expiry_margin = _EXPIRY_MARGIN
        self._client = client
        self._options = options
        self._name = name
        self._stop = stop
        self._clock = clock
        loop = asyncio.get_running_loop()
        self._change = asyncio.Event()
        self._closed: asyncio.Future[Exception | None] = loop.create_future()
        self._closing = False
        self._refused: asyncio.Future[Exception] = loop.create_future()
        self._refusals = 0
        self._without_tls: set[str] = set()
        self._giving_up: asyncio.Task[None] | None = None
        self._last_error: Exception | None = None
        self._logged = _Logged()

    @property
    def is_closed(self) -> bool:
        """Whether the client is closed for good."""
        return self._closed.done()

    async def open(self) -> None:
        """Connect.

        Raises:
            NotConnected: No server was reached or accepted the credentials in time; the text has the reason.
            ConfigurationError: A TLS or credential file is not usable.
        """
        opening = asyncio.create_task(self._connect(), name="actorloom nats connect")
        try:
            await asyncio.wait(
                {opening, self._refused},
                timeout=self._options.connect_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if opening.done() and opening.exception() is None:
                self._save_address()
                return
        except asyncio.CancelledError:
            await self._end_opening(opening)
            raise
        error = opening.exception() if opening.done() else None
        await self._end_opening(opening)
        if error is not None and not isinstance(error, nats.errors.Error | OSError):
            raise error
        refusal = self._refused.result() if self._refused.done() else None
        reason = refusal or error or self._last_error or "no answer in time"
        hint = ""
        if isinstance(reason, nats.errors.Error) and not self._client.greeted and not self._options.tls_first:
            hint = " (set tls_first if the server begins with the TLS handshake)"
        raise NotConnected(f"cannot connect to NATS at {self._options.address}: {reason}{hint}")

    async def wait_connected(self, timeout: float) -> None:
        """Return as soon as the client is connected.

        Raises:
            NotConnected: The client is closed, or not connected after `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while not self._client.is_connected:
            left = until - loop.time()
            if self.is_closed or left <= 0:
                state = "closed" if self.is_closed else f"not connected within {timeout:g} s"
                raise NotConnected(f"NATS at {self._options.address}: {state} ({self._last_error or 'no error'})")
            self._change.clear()
            try:
                await asyncio.wait_for(self._change.wait(), left)
            except TimeoutError:
                continue

    async def wait_closed(self) -> Exception | None:
        """Wait until the client is closed for good; return the reason, or None after a call of `close`."""
        return await asyncio.shield(self._closed)

    async def close(self) -> None:
        """Stop and close, within seconds even if the server does not respond."""
        if not self._closing:
            self._closing = True
            await self._stop()
            await _bounded(self._client.close(), _CLOSE_TIMEOUT if self._client.is_connected else _END_TIMEOUT)
            self._end(None)
        if self._giving_up is not None:
            await asyncio.wait({self._giving_up})

    async def _end_opening(self, opening: "asyncio.Task[None]") -> None:
        """End an attempt to connect. Without this, the client would continue to connect and ignore a cancellation."""
        while not opening.done():  # `asyncio.wait_for` of Python 3.11 may swallow one cancellation
            opening.cancel()
            await asyncio.wait({opening}, timeout=0.5)
        close_failed_handshake(self._client)
        await self.close()

    async def _connect(self) -> None:
        options = self._options
        if self._client.credentials is not None:
            try:
                self._client.credentials.read()
            except UnusableCredentials as error:
                raise ConfigurationError(str(error)) from None
        await self._client.connect(
            servers=[server.without_login for server in options.parsed_servers],
            name=self._name,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            closed_cb=self._on_closed,
            connect_timeout=options.connect_timeout,  # pyright: ignore[reportArgumentType] - any number of seconds
            reconnect_time_wait=options.reconnect_wait,  # pyright: ignore[reportArgumentType]
            max_reconnect_attempts=-1,
            ping_interval=options.ping_interval,  # pyright: ignore[reportArgumentType]
            max_outstanding_pings=2,
            pending_size=-1,  # Keep no message while disconnected: it would be sent after its caller gave up.
            tls=options.tls_context(),
            tls_handshake_first=options.tls_first,
        )

    def _save_address(self) -> None:
        url = self._client.connected_url
        if url is not None:
            self.address = (url.hostname or "", url.port or 4222)

    def watch_expiry(self) -> None:
        """Look at the credentials again shortly before they expire, by the clock of the server. Call it when that is known."""
        credentials = self._client.credentials
        if credentials is None or (expires_at := credentials.expires_at) is None:
            return
        left = expires_at - self._clock.now()
        self._expiry_margin = min(_EXPIRY_MARGIN, left / 10)
        self._check_expiry(credentials, expires_at)

    def _check_expiry(self, credentials: Credentials, expires_at: float) -> None:
        if self.is_closed or credentials.expires_at != expires_at:
            return
        left = expires_at - self._clock.now()
        if left > self._expiry_margin:
            pause = min(left - self._expiry_margin, _LONGEST_PAUSE)
            asyncio.get_running_loop().call_later(pause, self._check_expiry, credentials, expires_at)
            return
        following = credentials.next_expiry()
        if following is None or following > expires_at:
            return  # They are replaced already. The server ends the connection, and the next attempt reads them.
        text = f"the credentials in {credentials.name} expire now, and were not replaced"
        logger.error("NATS at %s: %s", self._options.address, text)
        for callback in self.on_expiring:
            callback(text)

    async def _on_error(self, error: Exception) -> None:
        close_failed_handshake(self._client)
        refusal = permission_denied(error, self._client.error_line)
        error = refusal or error
        text = str(error)
        if refusal is not None and refusal.subject.lower() == SUBJECT.lower():
            self._notify(refusal)  # Nobody needs the time of the server, and `ServerTime` logs the refusal.
            return
        if is_authorization_violation(error):
            self._on_unauthorized(error)
        elif isinstance(error, TlsNotOffered):
            self._without_tls.add(text)
            if len(self._without_tls) >= len(self._options.servers) and not self._refused.done():
                self._refused.set_result(error)  # `open` need not wait: each server was asked
        # While disconnected, each attempt to connect reports the same error. Log it once, as each subject that is refused.
        is_new = refusal is None or self._logged.add(refusal)
        if is_new and (self._client.is_connected or str(self._last_error) != text):
            logger.warning("NATS at %s: %s", self._options.address, text or repr(error))
        self._last_error = error
        self._notify(error)

    def _notify(self, error: Exception) -> None:
        for callback in self.on_error:
            callback(error)

    def _on_unauthorized(self, error: Exception) -> None:
        if not self._refused.done():
            self._refused.set_result(error)
        # nats-py would retry for ever, or close silently. Allow two attempts per server: a credentials file may be in the
        # middle of a rotation.
        self._refusals += 1
        if self._refusals == 2 * len(self._options.servers):
            self._giving_up = asyncio.create_task(self._give_up(error), name="actorloom nats give up")

    async def _give_up(self, error: Exception) -> None:
        self._end(error)
        await _bounded(self._client.close(), _CLOSE_TIMEOUT)

    async def _on_disconnected(self) -> None:
        if self._closing or self.is_closed:
            return
        logger.warning("NATS at %s: disconnected", self._options.address)
        for callback in self.on_disconnect:
            callback()

    async def _on_reconnected(self) -> None:
        self._save_address()
        self.watch_expiry()
        logger.info("NATS at %s:%d: reconnected", *self.address)
        self._last_error = None
        self._refusals = 0
        self._change.set()
        for callback in self.on_reconnect:
            callback()

    async def _on_closed(self) -> None:
        self._end(self._client.last_error or self._last_error)
        if not self._closing:
            self._closing = True
            await self._stop()

    def _end(self, reason: Exception | None) -> None:
        if self.is_closed:
            return
        if self._closing:
            reason = None
        else:
            logger.error("NATS at %s: closed for good: %s", self._options.address, reason)
        self._closed.set_result(reason)
        self._change.set()
        for callback in self.on_close:
            callback()


class _Logged:
    """The refused subjects that were logged, so that each is logged once. At most 256 are kept."""

    def __init__(self) -> None:
        self._subjects: set[tuple[str, str]] = set()

    def add(self, refusal: PermissionDenied) -> bool:
        """Return whether the subject was not logged before."""
        subject = refusal.operation, refusal.subject
        if subject in self._subjects:
            return False
        if len(self._subjects) >= _MAX_LOGGED:
            self._subjects.clear()
        self._subjects.add(subject)
        return True


async def _bounded(closing: Coroutine[Any, Any, None], seconds: float) -> None:
    """Await `closing` for at most some seconds, so that a dead peer does not delay the end of the process."""
    task = asyncio.ensure_future(closing)
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        task.cancel()
    elif task.exception() is not None:
        logger.warning("NATS: while closing: %s", task.exception())
