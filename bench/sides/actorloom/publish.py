"""The publishing side: events that JetStream acknowledges, with no consumer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from bench import load
from bench.sides.actorloom.actors import Accounts, Deposited
from runtime.client.bus import Bus
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import StreamConfig
from runtime.telemetry import Tracing
from runtime.testing import running


class Publisher:
    """Publishes to JetStream and waits for each acknowledgement."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.jetstream = JetStream(connection)
        self.bus = Bus(connection, Tracing.from_env().service("bench"), namespace=namespace)
        self.namespace = namespace

    async def prepare(self) -> None:
        """Create a stream for `bare`, with the duplicate window of an actor's stream."""
        await self.jetstream.ensure_stream(
            StreamConfig(
                name=f"{self.namespace}-bare", subjects=(f"{self.namespace}.bare.>",), duplicate_window=120 * 10**9
            )
        )

    async def events(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Emit events, with all their headers, in a closed loop."""
        emit = self.bus.emit
        return await load.closed_loop(lambda n: emit(Deposited(f"account-{n}", 5, 100)), in_flight, seconds)

    async def bare(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Publish the same bodies without headers in a closed loop, through our JetStream client alone."""
        publish, encode = self.jetstream.publish, msgspec.json.encode
        event = Deposited("account-1", 5, 100)
        return await load.closed_loop(
            lambda n: publish(f"{self.namespace}.bare.{n}", encode(event)), in_flight, seconds
        )

    async def store(self, count: int) -> None:
        """Store `count` events of 100 accounts."""
        numbers = iter(range(count))

        async def worker() -> None:
            for number in numbers:
                await self.bus.emit(Deposited(f"account-{number % 100}", 5, number))

        await asyncio.gather(*(worker() for _ in range(256)))


@asynccontextmanager
async def publisher(url: str, namespace: str) -> AsyncIterator[Publisher]:
    """Run the actor once, so that it creates its streams, and provide the publisher."""
    async with running(Accounts, url=url, namespace=namespace, tracing=Tracing.from_env()):
        pass
    async with await Connection.connect(ConnectionOptions(url=url), name="bench") as connection:
        side = Publisher(connection, namespace)
        await side.prepare()
        yield side
