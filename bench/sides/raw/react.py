"""The reacting side: stored events, fetched in batches."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import nats
from nats.aio.client import Client

from bench.work import Deposited


class Reactor:
    """Consumes a stream with a new durable pull consumer for each round."""

    def __init__(self, connection: Client) -> None:
        self.connection = connection
        self.rounds = 0

    async def consume(self, stream: str, subject: str, count: int) -> dict[str, Any]:
        """Handle `count` stored events with `fetch(64)` and one ack each, measured from the first fetch to the last ack."""
        self.rounds += 1
        subscription = await self.connection.jetstream().pull_subscribe(
            subject, durable=f"raw-{self.rounds}", stream=stream
        )
        decode = msgspec.json.Decoder(Deposited).decode
        total = handled = 0
        begun = cpu = 0
        while handled < count:
            messages = await subscription.fetch(64, timeout=5)
            if not begun:
                begun, cpu = time.perf_counter_ns(), time.process_time_ns()
            for message in messages:
                total += decode(message.data).amount
                await message.ack()
            handled += len(messages)
        await self.connection.flush()
        seconds = (time.perf_counter_ns() - begun) / 1e9
        return {"count": handled, "seconds": seconds, "cpu_us": (time.process_time_ns() - cpu) / 1e3}


@asynccontextmanager
async def reactor(url: str) -> AsyncIterator[Reactor]:
    """Provide a side that handles stored events."""
    connection = await nats.connect(url)
    yield Reactor(connection)
    await connection.close()
