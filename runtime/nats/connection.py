"""One connection to NATS: publish, request and subscribe, with reconnects that never give up."""

import asyncio
from collections.abc import Callable
from typing import Any

import nats.errors

from runtime.errors import ActorError, ConfigurationError, PublishError
from runtime.nats.client import NatsClient
from runtime.nats.errors import ConnectionLost, NoResponders, NotConnected, PermissionDenied
from runtime.nats.loopback import Loopback
from runtime.nats.options import ConnectionOptions
from runtime.nats.receive import Receiver
from runtime.nats.requests import ReplyCallback, ReplyTable, Response
from runtime.nats.resubscribing import Resubscribing
from runtime.nats.server_time import ServerTime
from runtime.nats.server_version import REMEDY, too_old
from runtime.nats.session import Session
from runtime.nats.subscription import Subscription
from runtime.nats.transport import Respond, choose_transport
from runtime.wire.server_clock import ServerClock

__all__ = [
    "Connection",
    "ConnectionLost",
    "ConnectionOptions",
    "NoResponders",
    "NotConnected",
    "PermissionDenied",
    "Receiver",
    "ReplyCallback",
    "Response",
    "Subscription",
    "validate_subject",
]


class Connection:
    """A connection to NATS, opened by `Connection.connect` and ended by `close` (or ``async with``).

    A lost connection is replaced without a limit of attempts. Subscriptions are restored, requests in flight fail with
    `ConnectionLost`, and nothing is kept for later: publishing while disconnected raises `NotConnected`. Only refused
    credentials and a violation of the protocol close the connection for good. `wait_closed` then returns the reason, and
    the process should exit.
    """

    def __init__(self, options: ConnectionOptions, name: str) -> None:
        """Prepare a connection without network access; call `connect` instead."""
        self.options = options
        self.on_reconnect: list[Callable[[], None]] = []
        """Callbacks for each reconnect. They are called in order and must not raise."""
        self.on_error: list[Callable[[Exception], None]] = []
        """Callbacks for each error that the server reports. They are called in order and must not raise."""
        self.on_expiring: list[Callable[[str], None]] = []
        """Callbacks for credentials that expire within seconds and were not replaced, with the reason. They must not raise."""
        self.clock = ServerClock()
        """The clock of the server. All dates on the wire are in its time."""
        self._server_time = ServerTime(self, self.clock)
        self._loop = asyncio.get_running_loop()
        self._client = NatsClient(options)
        self._transport = choose_transport(self._client, options)
        self._replies = ReplyTable(self._loop, options.inbox_prefix)
        self._loopback = Loopback(self._replies, self._transport, lambda: self.max_payload)
        self.respond: Respond = self._loopback.respond if options.loopback else self._transport.publish
        """Sends a reply. An attribute and not a method, which saves a call for the reply of every query."""
        self.domain: str | None = None
        """The JetStream domain of the server; empty if it has none, None if the server has no JetStream of its own."""
        self.max_payload = 0
        """The server's upper limit for the bytes of a message, headers included."""
        self._subscriptions: set[Subscription] = set()
        self._resubscribing = Resubscribing(self.flush)
        self._inbox: Subscription | None = None
        """The subscription to the replies of all requests."""
        self._session = session = Session(self._client, options, options.name or name, self._transport.stop, self.clock)
        session.on_disconnect.append(self._on_disconnect)
        session.on_reconnect.append(self._on_reconnect)
        session.on_close.append(self._on_close)
        session.on_error.append(self._on_error)
        session.on_expiring = self.on_expiring

    @classmethod
    async def connect(cls, options: ConnectionOptions, *, name: str = "actorloom") -> "Connection":
        """Return an open connection.

        Args:
            options: The servers, credentials and timeouts.
            name: The name that the server shows, unless `options` has one.

        Raises:
            NotConnected: No server was reached or accepted the credentials within `options.connect_timeout` seconds.
            ConfigurationError: A TLS or credential file, or a URL, is not usable.
        """
        connection = cls(options, name)
        await connection._session.open()
        try:
            connection._transport.start()
            connection._read_info()
            connection._inbox = await connection.subscribe(connection._replies.subject, connection._replies.receive)
            await connection._server_time.start()
            connection._session.watch_expiry()
        except BaseException:
            await connection.close()
            raise
        return connection

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._client.is_connected

    @property
    def is_closed(self) -> bool:
        """Whether the connection is closed for good."""
        return self._session.is_closed

    @property
    def server(self) -> dict[str, Any]:
        """The server's INFO: version, limits, cluster. While disconnected, the INFO of the last server."""
        return dict(self._client._server_info)

    @property
    def server_address(self) -> tuple[str, int]:
        """Host and port of the server (while disconnected, of the last one), without user, password or token."""
        return self._session.address

    @property
    def inbox(self) -> str:
        """The subject on which the replies to requests come, with a wildcard."""
        return self._replies.subject

    @property
    def clock_fault(self) -> str:
        """How the wall clock of this machine differs from that of the server, or why that is unknown; empty if it is right."""
        return self._server_time.fault

    def require_version(self) -> None:
        """Use only servers of a version that actors need, now and after each reconnect.

        An older server that is found by a reconnect is skipped, as one that cannot be reached.

        Raises:
            ConfigurationError: The server is older.
        """
        if reason := too_old(str(self.server.get("version", "?"))):
            raise ConfigurationError(f"{reason}: {REMEDY} ({self.options.address})")
        self._client.newer_servers_only = True

    def publish(
        self,
        subject: bytes | str,
        payload: bytes = b"",
        *,
        reply: bytes = b"",
        headers: bytes | None = None,
    ) -> None:
        """Send one message without waiting. Messages keep their order.

        Raises:
            NotConnected: There is no connection now.
            PublishError: The subject is invalid, the message (headers included) exceeds the server's limit, or 64 MiB
                wait to be written.
        """
        if reply:
            validate_subject(reply)
        self._transport.publish(validate_subject(subject), payload, headers, reply)

    async def request(
        self,
        subject: bytes | str,
        payload: bytes,
        *,
        headers: bytes | None = None,
        timeout: float,
    ) -> Response:
        """Send a request and return its first reply, within `timeout` seconds. A disconnected caller waits as long.

        Raises:
            NoResponders: The subject has no subscriber.
            ConnectionLost: The connection ended before the reply came, or the server refuses the inbox of the replies.
            TimeoutError: No reply came in time.
            NotConnected: There was no connection during the timeout.
            PermissionDenied: The server refused the subject.
            PublishError: The request was not sent for another reason.
        """
        expires_at = self._loop.time() + timeout
        if not self._client.is_connected:
            await self.wait_connected(timeout)
        if self._inbox is not None and self._inbox.error is not None:
            raise ConnectionLost(f"no reply to {_text(subject)} can arrive: {self._inbox.error}")
        return await self.request_nowait(validate_subject(subject), payload, headers, expires_at)

    async def is_served(self, subject: str, *, timeout: float) -> bool:
        """Return whether a process answers an empty request on a subject within `timeout` seconds."""
        try:
            await self.request(subject, b"", timeout=timeout)
        except (ActorError, TimeoutError):
            return False
        return True

    def is_own(self, reply: bytes) -> bool:
        """Return whether a reply subject is that of a request of this connection."""
        return self._replies.is_own(reply)

    def request_nowait(
        self,
        subject: bytes,
        payload: bytes,
        headers: bytes | None,
        expires_at: float,
    ) -> "asyncio.Future[Response]":
        """Send a request and return the future of its reply, which ends as `request` does; for the hot path.

        Args:
            subject: A subject from `validate_subject`, or one built of tokens.
            payload: The body.
            headers: A header block, or None.
            expires_at: The deadline, in the loop's time.

        Raises:
            PublishError: The request was not sent, as with `publish`.
        """
        reply, future = self._replies.expect(subject, expires_at)
        receiver = self._loopback.receivers.get(subject)
        try:
            if receiver is None:
                self._transport.publish(subject, payload, headers, reply)
            else:
                self._loopback.request(receiver, subject, reply, headers, payload)
        except PublishError:
            self._replies.forget(reply)
            raise
        return future

    def request_callback(
        self,
        subject: bytes,
        payload: bytes,
        headers: bytes | None,
        expires_at: float,
        callback: ReplyCallback,
    ) -> bytes:
        """Send a request whose reply or error `callback` gets. This needs neither a task nor a future.

        The other arguments and the errors are those of `request_nowait`. The request goes to the server, also if this process
        serves the subject itself.

        Returns:
            The reply subject, for `forget`.
        """
        reply = self._replies.register(subject, expires_at, callback)
        try:
            self._transport.publish(subject, payload, headers, reply)
        except PublishError:
            self._replies.forget(reply)
            raise
        return reply

    def forget(self, reply: bytes) -> None:
        """Await the reply on a subject no longer. The callback of the request is not called."""
        self._replies.forget(reply)

    async def subscribe(self, subject: str, receiver: Receiver, *, queue: str = "") -> Subscription:
        """Subscribe `receiver` to `subject`, as a member of the queue group `queue` if one is given.

        The server processes the subscription before any later publish on this connection. If it refuses the
        subscription, it sets the `error` of the subscription and calls the `on_error` callbacks.

        Raises:
            PublishError: The connection is closed, or the subject is invalid.
        """
        if self.is_closed:
            raise NotConnected(f"closed: cannot subscribe to {subject}")
        try:
            unsubscribe = await self._transport.subscribe(subject, queue, receiver)
        except nats.errors.Error as error:
            raise PublishError(f"cannot subscribe to {subject!r} (queue {queue!r}): {error}") from error
        if queue and self.options.loopback:
            unsubscribe = self._in_order(self.serve_in_process(subject, receiver), unsubscribe)

        async def again() -> Callable[[bool], None]:
            ends = await self._transport.subscribe(subject, queue, receiver)
            if queue and self.options.loopback:
                return self._in_order(self.serve_in_process(subject, receiver), ends)
            return ends

        subscription = Subscription(subject, queue, unsubscribe, self.flush, again)
        subscription.on_end = self._on_end
        self._subscriptions.add(subscription)
        return subscription

    @property
    def refused_subscriptions(self) -> list[str]:
        """The subjects to which the server refuses a subscription now. They are subscribed to again and again."""
        return sorted(subscription.subject for subscription in tuple(self._resubscribing.refused))

    def serve_in_process(self, subject: str, receiver: Receiver) -> Callable[[], None]:
        """Pass this process's own requests for `subject` to `receiver` directly; return a function that ends this.

        It replaces an earlier receiver of the subject until then.
        """
        return self._loopback.serve(subject, receiver)

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server has processed everything published and subscribed before.

        Raises:
            TimeoutError: The server did not respond within `timeout` seconds.
            ConnectionLost: The connection ended meanwhile.
            NotConnected: There is no connection now.
        """
        if not self._client.is_connected:
            raise NotConnected("not connected to NATS: nothing to flush to")
        barrier = self._transport.barrier()
        # `wait_for` would cancel the future, and a late PONG for a cancelled future ends nats-py's read loop.
        await asyncio.wait({barrier}, timeout=timeout)
        if not barrier.done():
            raise TimeoutError(f"no answer from NATS at {self.server_address} within {timeout:g} s")
        if barrier.cancelled() or barrier.exception() is not None:
            raise ConnectionLost("the connection was lost during a flush")

    async def wait_connected(self, timeout: float) -> None:
        """Return as soon as there is a connection.

        Raises:
            NotConnected: The connection is closed, or there is none after `timeout` seconds.
        """
        await self._session.wait_connected(timeout)

    async def wait_closed(self) -> Exception | None:
        """Wait until the connection is closed for good; return the reason, or None after a call of `close`."""
        return await self._session.wait_closed()

    async def close(self) -> None:
        """Write the queued messages and close, within seconds even if the server does not respond.

        Requests in flight fail with `ConnectionLost`.
        """
        await self._session.close()

    async def abort(self) -> None:
        """Close at once, as the end of the process would. Messages that are not written to the socket yet are never sent."""
        self._client.abort()
        await self.close()

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @staticmethod
    def _in_order(first: Callable[[], None], second: Callable[[bool], None]) -> Callable[[bool], None]:
        def end(keep: bool) -> None:
            first()
            second(keep)

        return end

    def _read_info(self) -> None:
        server = self.server
        self.max_payload = self._client.max_payload
        self.domain = str(server.get("domain", "")) if server.get("jetstream") else None

    def _on_disconnect(self) -> None:
        self._transport.disconnected()
        self._replies.fail(ConnectionLost("the connection to NATS was lost before the reply came"))

    def _on_reconnect(self) -> None:
        self._transport.reconnected()
        self._read_info()
        self._server_time.reconnected()
        for callback in tuple(self.on_reconnect):
            callback()

    def _on_end(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
        self._resubscribing.ended(subscription)

    def _on_close(self) -> None:
        self._resubscribing.stop()
        self._server_time.stop()
        self._replies.close(ConnectionLost("the connection to NATS was closed before the reply came"))

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, PermissionDenied):
            if error.operation == "publish":
                self._replies.fail(error, error.subject)
            for subscription in self._subscriptions:
                if error.operation == "subscription" and subscription.subject.lower() == error.subject.lower():
                    subscription.error = error
                    self._resubscribing.add(subscription, error)
            if self._inbox is not None and self._inbox.error is error:
                # Whether the requests are executed is unknown: their replies cannot arrive.
                self._replies.fail(ConnectionLost(f"no reply can arrive: {error}"))
        for callback in self.on_error:
            callback(error)


def _text(subject: bytes | str) -> str:
    return subject if isinstance(subject, str) else subject.decode("utf-8", "backslashreplace")


def validate_subject(subject: bytes | str) -> bytes:
    """Return `subject` as bytes.

    Raises:
        PublishError: The subject is empty, or has white space, which would end it in the protocol, or a lone surrogate.
    """
    encoded = subject.encode("utf-8", "replace") if isinstance(subject, str) else subject
    if encoded.split() != [encoded] or (isinstance(subject, str) and encoded.decode() != subject):
        raise PublishError(f"{encoded!r} is not a valid subject")
    return encoded
