"""The publishing side: acknowledged publishes, with no consumer."""

import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import nats
from nats.aio.client import Client
from nats.js.api import StreamConfig

from bench import load
from bench.sides.raw.turn import Record
from bench.work import Account, Deposit, Deposited, deposit

encode = msgspec.json.encode


class Publisher:
    """Publishes to JetStream and waits for each acknowledgement."""

    def __init__(self, connection: Client) -> None:
        self.jetstream = connection.jetstream()

    async def events(self, in_flight: int, seconds: float, headers: bool) -> dict[str, Any]:
        """Publish in a closed loop, with the headers of an event or without headers."""
        publish = self.jetstream.publish
        event = Deposited("account-1", 5, 100)

        async def send(number: int) -> object:
            subject = f"raw.emitted.{number}"
            if not headers:
                return await publish(subject, encode(event), timeout=5)
            event_id = uuid.uuid4().hex
            return await publish(
                subject,
                encode(event),
                timeout=5,
                headers={
                    "ce-specversion": "1.0",
                    "ce-id": event_id,
                    "ce-source": "/accounts",
                    "ce-type": "accounts.Deposited",
                    "ce-subject": str(number),
                    "ce-time": "2026-01-01T00:00:00.000000Z",
                    "ce-datacontenttype": "application/json",
                    "Nats-Msg-Id": event_id,
                },
            )

        return await load.closed_loop(send, in_flight, seconds)

    async def one_key(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Publish to one subject with a sequence check, one after another. Only one can be in flight, whatever `in_flight` is."""
        publish = self.jetstream.publish
        handled: deque[tuple[str, bytes]] = deque(maxlen=8)
        account: Account | None = None
        key = f"raw.hot.{uuid.uuid4().hex}"
        sequence = 0

        async def send(_: int) -> None:
            nonlocal sequence, account
            account = deposit(account, Deposit("hot", 5))
            handled.append((uuid.uuid4().hex, encode(account)))
            check = {"Nats-Expected-Last-Subject-Sequence": str(sequence)}
            ack = await publish(key, encode(Record(account, list(handled))), timeout=5, headers=check)
            sequence = ack.seq

        return await load.closed_loop(send, 1, seconds)


@asynccontextmanager
async def publisher(url: str) -> AsyncIterator[Publisher]:
    """Create the streams and provide the publisher."""
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    await jetstream.add_stream(StreamConfig(name="raw-emitted", subjects=["raw.emitted.>"], duplicate_window=120))
    await jetstream.add_stream(
        StreamConfig(name="raw-hot", subjects=["raw.hot.>"], max_msgs_per_subject=2, duplicate_window=120)
    )
    yield Publisher(connection)
    await connection.close()
