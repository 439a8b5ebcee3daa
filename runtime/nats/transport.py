"""What carries the messages of a connection: the fast path, or nats-py's public API."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from nats.aio.client import Client

from runtime.nats.fast import FastTransport, unusable
from runtime.nats.options import ConnectionOptions
from runtime.nats.public import PublicTransport
from runtime.nats.receive import Receiver

logger = logging.getLogger("actorloom.nats")


class Transport(Protocol):
    """What carries the messages: the fast path, or nats-py's public API."""

    def start(self) -> None: ...
    def publish(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        """Send; both subjects are one word (`reply` may be empty)."""
        ...

    @property
    def respond(self) -> "Respond": ...
    async def subscribe(self, subject: str, queue: str, receiver: Receiver) -> Callable[[bool], None]:
        """Subscribe; return what ends it: with True nothing more is routed here, but what was is still delivered."""
        ...

    def barrier(self) -> asyncio.Future[None]: ...
    async def drained(self) -> None: ...
    def disconnected(self) -> None: ...
    def reconnected(self) -> None: ...
    async def stop(self) -> None: ...


class Respond(Protocol):
    """Send a reply: `publish` to the reply subject of a received message, without checks but those of size."""

    def __call__(self, subject: bytes, payload: bytes, headers: bytes | None = None) -> None: ...


def choose_transport(client: Client, options: ConnectionOptions) -> Transport:
    """Return the fast path, unless it was switched off or nats-py is not of a version that it knows."""
    if options.wants_public_api():
        return PublicTransport(client)
    reason = unusable(client, options.servers)
    if reason is None:
        return FastTransport(client)
    logger.warning("the slower public API of nats-py is used: %s", reason)
    return PublicTransport(client)
