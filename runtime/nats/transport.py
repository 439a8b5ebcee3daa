"""The transport of a connection: the fast one, or the one on nats-py's public API."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from nats.aio.client import Client

from runtime.nats.fast import FastTransport, unsupported_reason
from runtime.nats.options import ConnectionOptions
from runtime.nats.public import PublicTransport
from runtime.nats.receive import Receiver

logger = logging.getLogger("actorloom.nats")


class Respond(Protocol):
    """Publishes to the reply subject of a received message; only the size is checked."""

    def __call__(self, subject: bytes, payload: bytes, headers: bytes | None = None) -> None: ...


class Transport(Protocol):
    """Carries the messages of one connection."""

    def start(self) -> None:
        """Start on the new connection."""
        ...

    def publish(self, subject: bytes, payload: bytes, headers: bytes | None = None, reply: bytes = b"") -> None:
        """Send one message. Both subjects are one word; `reply` may be empty."""
        ...

    async def subscribe(self, subject: str, queue: str, receiver: Receiver) -> Callable[[bool], None]:
        """Subscribe, and return a function that ends the subscription.

        The function takes a flag. With True the server routes no more messages here, but `receiver` still gets the
        messages that were routed before. With False it gets none.
        """
        ...

    def barrier(self) -> asyncio.Future[None]:
        """Return a future that is done when the server has processed everything published before."""
        ...

    def disconnected(self) -> None:
        """Cancel the barriers of the lost connection."""
        ...

    def reconnected(self) -> None:
        """Start on the next connection."""
        ...

    async def stop(self) -> None:
        """Write the kept messages, and end."""
        ...


def choose_transport(client: Client, options: ConnectionOptions) -> Transport:
    """Return the fast transport, unless the options exclude it or nats-py has another version than it supports."""
    if options.wants_public_api():
        return PublicTransport(client)
    reason = unsupported_reason(client, options.servers)
    if reason is None:
        return FastTransport(client)
    logger.warning("the slower public API of nats-py is used: %s", reason)
    return PublicTransport(client)
