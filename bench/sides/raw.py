"""Raw nats-py: callbacks, `request`, `js.publish` and `fetch`, with msgspec, as its documentation shows them."""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

from bench import load
from bench.work import ORDER, Account, Deposit, Deposited, Quote, QuoteRequest, deposit, quote

encode = msgspec.json.encode


@asynccontextmanager
async def pricing(url: str, subject: str) -> AsyncIterator[object]:
    """Answer quotes: decode, price, encode, respond."""
    decode = msgspec.json.Decoder(QuoteRequest).decode

    async def handle(message: Msg) -> None:
        await message.respond(encode(quote(decode(message.data))))

    connection = await nats.connect(url)
    await connection.subscribe(subject, queue="q", cb=handle)
    await connection.flush()
    yield object()
    await connection.close()


class Caller:
    """Sends requests by `Client.request`."""

    def __init__(self, connection: Client, subject: str) -> None:
        self.connection = connection
        self.subject = subject

    async def quotes(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Ask for quotes in a closed loop."""
        request, subject, decode = self.connection.request, self.subject, msgspec.json.Decoder(Quote).decode
        message = QuoteRequest(**ORDER)

        async def one(_: int) -> Quote:
            return decode((await request(subject, encode(message), timeout=5)).data)

        return await load.closed(one, in_flight, seconds)

    async def deposits(self, in_flight: int, seconds: float, keys: int) -> dict[str, Any]:
        """Make deposits in a closed loop, each worker on the account of its number modulo `keys`."""
        request, subject, decode = self.connection.request, self.subject, msgspec.json.Decoder(Account).decode

        async def one(number: int) -> Account:
            message = Deposit(f"account-{number % keys}", 5)
            headers = {"Idempotency-Key": uuid.uuid4().hex}
            return decode((await request(subject, encode(message), timeout=5, headers=headers)).data)

        return await load.closed(one, in_flight, seconds)


@asynccontextmanager
async def caller(url: str, subject: str) -> AsyncIterator[Caller]:
    """The client side of quotes and deposits."""
    connection = await nats.connect(url)
    yield Caller(connection, subject)
    await connection.close()


class Record(msgspec.Struct):
    """What the hand-written owner stores for an account: its state and the last messages with their replies."""

    state: Account
    handled: list[tuple[str, bytes]]


class Entry:
    """What it keeps of an account in memory."""

    __slots__ = ("handled", "lock", "sequence", "state")

    def __init__(self) -> None:
        self.state: Account | None = None
        self.sequence = 0
        self.handled: deque[tuple[str, bytes]] = deque(maxlen=8)
        self.lock = asyncio.Lock()


@asynccontextmanager
async def accounts(url: str, subject: str) -> AsyncIterator[object]:
    """Deposits by hand, the same steps as a turn: check the id, publish with a sequence check, publish the event, reply.

    One task a message, since nats-py runs the callbacks of a subscription one at a time.
    """
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    await jetstream.add_stream(StreamConfig(name="raw-turns", subjects=["raw.turn.>"], max_msgs_per_subject=2))
    await jetstream.add_stream(StreamConfig(name="raw-events", subjects=["raw.event.>"], duplicate_window=120))
    decode = msgspec.json.Decoder(Deposit).decode
    entries: dict[str, Entry] = {}
    tasks: set[asyncio.Task[None]] = set()

    async def turn(message: Msg) -> None:
        request = decode(message.data)
        message_id = (message.headers or {})["Idempotency-Key"]
        entry = entries.setdefault(request.account, Entry())
        async with entry.lock:
            for known, reply in entry.handled:
                if known == message_id:
                    await message.respond(reply)
                    return
            state = deposit(entry.state, request)
            reply = encode(state)
            record = encode(Record(state, [*entry.handled, (message_id, reply)]))
            check = {"Nats-Expected-Last-Subject-Sequence": str(entry.sequence)}
            ack = await jetstream.publish(f"raw.turn.{request.account}", record, timeout=5, headers=check)
            entry.sequence, entry.state = ack.seq, state
            entry.handled.append((message_id, reply))
            event = encode(Deposited(request.account, request.amount, state.balance))
            event_id = {"Nats-Msg-Id": f"{message_id}-1"}
            await jetstream.publish(f"raw.event.deposited.{request.account}", event, timeout=5, headers=event_id)
            await message.respond(reply)

    async def handle(message: Msg) -> None:
        task = asyncio.create_task(turn(message))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    await connection.subscribe(subject, queue="q", cb=handle)
    await connection.flush()
    yield object()
    await connection.close()


class Publisher:
    """Publishes to JetStream, each acknowledged."""

    def __init__(self, connection: Client) -> None:
        self.jetstream = connection.jetstream()

    async def events(self, in_flight: int, seconds: float, headers: bool) -> dict[str, Any]:
        """Publish in a closed loop, with the headers of an event or with none."""
        publish = self.jetstream.publish
        event = Deposited("account-1", 5, 100)

        async def one(number: int) -> object:
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

        return await load.closed(one, in_flight, seconds)

    async def one_key(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Publish to one subject with a sequence check, one after another; `in_flight` is 1 by nature."""
        publish = self.jetstream.publish
        handled: deque[tuple[str, bytes]] = deque(maxlen=8)
        account: Account | None = None
        key = f"raw.hot.{uuid.uuid4().hex}"
        sequence = 0

        async def one(_: int) -> None:
            nonlocal sequence, account
            account = deposit(account, Deposit("hot", 5))
            handled.append((uuid.uuid4().hex, encode(account)))
            check = {"Nats-Expected-Last-Subject-Sequence": str(sequence)}
            ack = await publish(key, encode(Record(account, list(handled))), timeout=5, headers=check)
            sequence = ack.seq

        return await load.closed(one, 1, seconds)


@asynccontextmanager
async def publisher(url: str) -> AsyncIterator[Publisher]:
    """Acknowledged publishes, without anybody on the other side."""
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    await jetstream.add_stream(StreamConfig(name="raw-emitted", subjects=["raw.emitted.>"], duplicate_window=120))
    await jetstream.add_stream(
        StreamConfig(name="raw-hot", subjects=["raw.hot.>"], max_msgs_per_subject=2, duplicate_window=120)
    )
    yield Publisher(connection)
    await connection.close()


class Reactor:
    """Consumes a stream with a durable pull consumer."""

    def __init__(self, connection: Client) -> None:
        self.connection = connection
        self.rounds = 0

    async def consume(self, stream: str, subject: str, count: int) -> dict[str, Any]:
        """Handle `count` stored events with `fetch(64)` and an ack each, from the first one got to the last ack."""
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
    """Reactions by hand."""
    connection = await nats.connect(url)
    yield Reactor(connection)
    await connection.close()


@asynccontextmanager
async def micro(url: str) -> AsyncIterator[object]:
    """Answer quotes by nats.micro on ``micro.quote``."""
    import nats.micro

    decode = msgspec.json.Decoder(QuoteRequest).decode

    async def handle(request: nats.micro.Request) -> None:
        await request.respond(encode(quote(decode(request.data))))

    connection = await nats.connect(url)
    service = await nats.micro.add_service(connection, name="micro", version="1.0.0")
    await service.add_endpoint(name="quote", subject="micro.quote", handler=handle)
    await connection.flush()
    yield object()
    await connection.close()
