"""Requests and replies that stay in the process: they go to a receiver of the same connection, without the server."""

from collections.abc import Callable

from runtime.errors import PublishError
from runtime.nats.receive import Receiver, deliver
from runtime.nats.requests import ReplyTable
from runtime.nats.transport import Transport


class Loopback:
    """Passes a connection's own requests to its own receivers.

    A connection uses it for all requests with the option `loopback`, and else only while its process drains.

    Args:
        replies: The requests in flight of the connection.
        transport: The way to the server, for all other messages.
        max_payload: Returns the server's upper limit for the bytes of a message.
    """

    def __init__(self, replies: ReplyTable, transport: Transport, max_payload: Callable[[], int]) -> None:
        self.receivers: dict[bytes, Receiver] = {}
        """The receivers by subject."""
        self._registered: dict[bytes, list[Receiver]] = {}
        """All receivers that have not ended, the newest last."""
        self._replies = replies
        self._transport = transport
        self._max_payload = max_payload

    def serve(self, subject: str, receiver: Receiver) -> Callable[[], None]:
        """Register the receiver of `subject`, in place of an earlier one until it ends; return a function that ends it."""
        key = subject.encode()
        registered = self._registered.setdefault(key, [])
        registered.append(receiver)
        self.receivers[key] = receiver

        def end() -> None:
            """End the receiver. Further calls do nothing."""
            nonlocal ended
            if ended:
                return
            ended = True
            registered.remove(receiver)
            if registered:
                self.receivers[key] = registered[-1]
            else:
                del self.receivers[key], self._registered[key]

        ended = False
        return end

    def request(self, receiver: Receiver, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        """Pass a request to `receiver`. Raises `PublishError` if the message is too large."""
        self._check_size(subject, headers, payload)
        deliver(receiver, subject, reply, headers, payload)

    def respond(self, subject: bytes, payload: bytes, headers: bytes | None = None) -> None:
        """Complete a request of this connection, or send the reply to another one."""
        if self._replies.is_own(subject):
            self._check_size(subject, headers, payload)
            self._replies.receive(subject, b"", headers, payload)
        else:
            self._transport.publish(subject, payload, headers)

    def _check_size(self, subject: bytes, headers: bytes | None, payload: bytes) -> None:
        """Refuse a message that the server would refuse: a request must not depend on the location of its actor."""
        size, most = len(payload) + len(headers or b""), self._max_payload()
        if size > most:
            text = subject.decode("utf-8", "backslashreplace")
            raise PublishError(f"{size} bytes (headers included) to {text}: at most {most}")
