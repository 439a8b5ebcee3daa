"""The two round trips of a command whose caller waits, over our own transport: to another process, and to the stream."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from bench import load
from bench.work import Account, Deposit
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import StreamConfig
from runtime.wire import header_block

_TIMEOUT = 5.0
_STREAM = "round-trips"
_REQUEST = msgspec.json.encode(Deposit("account-0", 5))
_EXPECTED = header_block.START + header_block.line(header_block.EXPECTED_SEQUENCE, b"%d") + header_block.END
_RECORD = msgspec.json.encode(Account("account-0", 5, 1))


class Echo:
    """A process that answers each request at once."""


class RoundTrips:
    """A caller that asks the other process, and then publishes to the stream with a sequence check."""

    def __init__(self, connection: Connection, subject: str) -> None:
        self.connection = connection
        self.subject = subject

    async def both(self, seconds: float) -> dict[str, Any]:
        """Wait for both round trips in a closed loop, with one in flight."""
        request, publish = self.connection.request, JetStream(self.connection).publish
        stored = await publish(f"{_STREAM}.record", _RECORD)

        async def trips(_: int) -> None:
            nonlocal stored
            await request(self.subject, _REQUEST, timeout=_TIMEOUT)
            stored = await publish(f"{_STREAM}.record", _RECORD, headers=_EXPECTED % stored.sequence)

        return await load.closed_loop(trips, 1, seconds)


@asynccontextmanager
async def echo(url: str, subject: str) -> AsyncIterator[Echo]:
    """Answer the requests on a subject."""
    async with await Connection.connect(ConnectionOptions(url=url), name="bench") as connection:

        def answer(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            connection.publish(reply, payload)

        await connection.subscribe(subject, answer)
        await connection.flush()
        yield Echo()


@asynccontextmanager
async def round_trips(url: str, subject: str) -> AsyncIterator[RoundTrips]:
    """Create the stream and provide the caller."""
    async with await Connection.connect(ConnectionOptions(url=url), name="bench") as connection:
        await JetStream(connection).ensure_stream(
            StreamConfig(name=_STREAM, subjects=(f"{_STREAM}.>",), max_msgs_per_subject=1)
        )
        yield RoundTrips(connection, subject)
