"""One connection to NATS: publish, request, subscribe; it heals, or says that it is closed."""

import asyncio
from collections.abc import Callable
from typing import Any

import nats.errors
from nats.aio.client import Client

from runtime.errors import PublishError
from runtime.nats.errors import ConnectionLost, NoResponders, NotConnected, PermissionDenied
from runtime.nats.options import ConnectionOptions
from runtime.nats.receive import Receiver, deliver
from runtime.nats.requests import ReplyTable, Response, Waiter
from runtime.nats.session import Session
from runtime.nats.subscription import Subscription
from runtime.nats.transport import Respond, choose_transport

__all__ = [
    "Connection",
    "ConnectionLost",
    "ConnectionOptions",
    "NoResponders",
    "NotConnected",
    "PermissionDenied",
    "Receiver",
    "Response",
    "Subscription",
    "checked",
]


class Connection:
    """A connection to NATS, made by `Connection.connect` and ended by `close` (or `async with`).

    It reconnects without end; subscriptions are restored, requests in flight fail with `ConnectionLost`, and nothing is
    kept for later: publishing while down raises `NotConnected`. Only credentials that the server refuses (or a protocol
    violation) close it for good: then `wait_closed` ends with the reason, and the process should exit.
    """

    def __init__(self, options: ConnectionOptions, name: str) -> None:
        """Use `connect`; this does nothing on the network."""
        self.options = options
        self.name = options.name or name
        # Called in order; what is put there must not raise.
        self.on_reconnect: list[Callable[[], None]] = []
        self.on_disconnect: list[Callable[[], None]] = []
        self.on_error: list[Callable[[Exception], None]] = []
        self._loop = asyncio.get_running_loop()
        self._client = Client()
        self._transport = choose_transport(self._client, options)
        # Not a method: the reply of every query goes this way, and a call more would be a tenth of its cost.
        self.respond: Respond = self._respond_near if options.loopback else self._transport.respond
        self._replies = ReplyTable(self._loop, options.inbox_prefix)
        self._near: dict[bytes, Receiver] = {}
        """Who takes the requests of this process for a subject: with `loopback`, or while it drains."""
        self._subscriptions: set[Subscription] = set()
        self._session = session = Session(self._client, options, self.name, self._transport.stop)
        session.on_lost.append(self._on_lost)
        session.on_found.append(self._on_found)
        session.on_ended.append(self._on_ended)
        session.on_error.append(self._on_error)

    @classmethod
    async def connect(cls, options: ConnectionOptions, *, name: str = "actorloom") -> "Connection":
        """Return an open connection.

        Raises `NotConnected` where no server is reached or lets us in within `options.connect_timeout` seconds, and
        `ConfigurationError` for TLS or credential files that cannot be used.
        """
        connection = cls(options, name)
        await connection._session.open()
        try:
            connection._transport.start()
            await connection._transport.subscribe(connection._replies.subject, "", connection._replies.receive)
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
        """Whether it is closed for good."""
        return self._session.is_closed

    @property
    def max_payload(self) -> int:
        """The most bytes (headers and payload) that the server takes in one message."""
        return self._client.max_payload

    @property
    def server(self) -> dict[str, Any]:
        """What the server said of itself when it greeted (its INFO): version, limits, cluster; the last one while down."""
        return dict(self._client._server_info)

    @property
    def server_address(self) -> tuple[str, int]:
        """Host and port of the server, the last one while down. Never a user, password or token."""
        return self._session.address

    def publish(
        self,
        subject: bytes | str,
        payload: bytes = b"",
        *,
        reply: bytes = b"",
        headers: bytes | None = None,
    ) -> None:
        """Send one message; not waited for. Order is kept.

        Raises `NotConnected` while down, and `PublishError` for a subject that is none, for more bytes than the server
        takes (headers included), or where too much waits to be written (await `drained` to avoid it).
        """
        if reply:
            checked(reply)
        self._transport.publish(checked(subject), reply, headers, payload)

    async def request(
        self,
        subject: bytes | str,
        payload: bytes,
        *,
        headers: bytes | None = None,
        timeout: float,
    ) -> Response:
        """Send a request and return its first reply, within `timeout` seconds.

        Raises `NoResponders` where nobody subscribes, `TimeoutError` without a reply in time (`ConnectionLost` as soon
        as it cannot come any more), and `PublishError` where it was not sent: `NotConnected` while down for all of the
        timeout, `PermissionDenied` where the server refused it.
        """
        expires_at = self._loop.time() + timeout
        if not self._client.is_connected:
            await self.wait_connected(timeout)
        return await self.request_nowait(checked(subject), payload, headers, expires_at)

    def request_nowait(
        self,
        subject: bytes,
        payload: bytes,
        headers: bytes | None,
        expires_at: float,
    ) -> "asyncio.Future[Response]":
        """Send a request and return the future of its reply; `expires_at` is in the loop's time.

        For the hot path: `subject` is one that `checked` has returned, or that consists of tokens. Raises as `publish`; the
        future ends as `request` does.
        """
        reply, future = self._replies.expect(subject, expires_at)
        near = self._near.get(subject)
        try:
            if near is not None:
                self._check_size(subject, payload, headers)
                deliver(near, subject, reply, headers, payload)
            else:
                self._transport.publish(subject, reply, headers, payload)
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
        told: Callable[[Response | None, Exception | None], None],
    ) -> None:
        """Send a request, and have `told` called with its reply, or with the error that `request` would raise.

        For what needs no task of its own; `subject` and `expires_at` as with `request_nowait`. Raises as `publish`.
        """
        reply = self._replies.tell(subject, expires_at, Waiter(told))
        try:
            self._transport.publish(subject, reply, headers, payload)
        except PublishError:
            self._replies.forget(reply)
            raise

    async def subscribe(self, subject: str, receiver: Receiver, *, queue: str = "") -> Subscription:
        """Subscribe `receiver` to `subject`, in `queue` if given.

        The server has it before anything that is published after this; a refusal by permissions is set as `error` of
        the subscription, logged and told to `on_error`. Raises `PublishError` where closed, or no subject.
        """
        if self.is_closed:
            raise NotConnected(f"closed: cannot subscribe to {subject}")
        try:
            unsubscribe = await self._transport.subscribe(subject, queue, receiver)
        except nats.errors.Error as error:
            raise PublishError(f"cannot subscribe to {subject!r} (queue {queue!r}): {error}") from error
        if queue and self.options.loopback:
            unsubscribe = self._until_left(self.serve_in_process(subject, receiver), unsubscribe)
        subscription = Subscription(subject, queue, unsubscribe, self.flush)
        subscription.on_end = self._subscriptions.discard
        self._subscriptions.add(subscription)
        return subscription

    def serve_in_process(self, subject: str, receiver: Receiver) -> Callable[[], None]:
        """Hand the requests of this process for `subject` straight to `receiver`; return what ends that.

        Whoever did so before does not any more.
        """
        key = subject.encode()
        self._near[key] = receiver

        def leave() -> None:
            if self._near.get(key) is receiver:
                del self._near[key]

        return leave

    @staticmethod
    def _until_left(leave: Callable[[], None], unsubscribe: Callable[[bool], None]) -> Callable[[bool], None]:
        def end(draining: bool) -> None:
            leave()
            unsubscribe(draining)

        return end

    def _respond_near(self, subject: bytes, payload: bytes, headers: bytes | None = None) -> None:
        if self._replies.is_own(subject):
            self._check_size(subject, payload, headers)
            self._replies.receive(subject, b"", headers, payload)
        else:
            self._transport.respond(subject, payload, headers)

    def _check_size(self, subject: bytes, payload: bytes, headers: bytes | None) -> None:
        """Refuse what the server would have: a request is not to succeed only since its actor happens to be near."""
        size = len(payload) + len(headers or b"")
        if size > self.max_payload:
            raise PublishError(
                f"{size} bytes (headers included) to {subject.decode('utf-8', 'backslashreplace')}: at most {self.max_payload}"
            )

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server has seen all that was published and subscribed before: a barrier.

        Raises `TimeoutError` after `timeout` seconds, `ConnectionLost` where the connection went meanwhile, and
        `NotConnected` while down.
        """
        if not self._client.is_connected:
            raise NotConnected("not connected to NATS: nothing to flush to")
        barrier = self._transport.barrier()
        # Not wait_for: it would cancel the future, and a late PONG that meets a cancelled future deafens nats-py.
        await asyncio.wait({barrier}, timeout=timeout)
        if not barrier.done():
            raise TimeoutError(f"no answer from NATS at {self.server_address} within {timeout:g} s")
        if barrier.cancelled() or barrier.exception() is not None:
            raise ConnectionLost("the connection went while flushing")

    async def drained(self) -> None:
        """Wait until what was published has mostly been written; for those who publish much in a row."""
        await self._transport.drained()

    async def wait_connected(self, timeout: float) -> None:
        """Return when connected. Raises `NotConnected` after `timeout` seconds, or at once where closed."""
        await self._session.wait_connected(timeout)

    async def wait_closed(self) -> Exception | None:
        """Wait until it is closed for good; return the reason, or None where `close` was called."""
        return await self._session.wait_closed()

    async def close(self) -> None:
        """Write what is queued and close, within seconds whatever the server does. Requests in flight fail."""
        await self._session.close()

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _on_lost(self) -> None:
        self._transport.disconnected()
        self._replies.fail(ConnectionLost("the connection to NATS went before the reply came"))
        for told in self.on_disconnect:
            told()

    def _on_found(self) -> None:
        self._transport.reconnected()
        for told in self.on_reconnect:
            told()

    def _on_ended(self) -> None:
        self._replies.close(ConnectionLost("the connection to NATS was closed before the reply came"))

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, PermissionDenied):
            if error.operation == "publish":
                self._replies.fail(error, error.subject)
            for subscription in self._subscriptions:
                if error.operation == "subscription" and subscription.subject.lower() == error.subject.lower():
                    subscription.error = error
        for told in self.on_error:
            told(error)


def checked(subject: bytes | str) -> bytes:
    """Return a subject as bytes. Raises `PublishError` unless it is one word: more would be words of the protocol."""
    encoded = subject.encode() if isinstance(subject, str) else subject
    if encoded.split() != [encoded]:
        raise PublishError(f"{encoded!r} is no subject")
    return encoded
