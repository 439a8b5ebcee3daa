"""A durable turn by hand: the account service that a user of raw nats-py would write."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import nats
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

from bench.work import Account, Deposit, Deposited, deposit

encode = msgspec.json.encode


class Record(msgspec.Struct):
    """The stored record of an account: its state, and the ids and replies of the latest messages."""

    state: Account
    handled: list[tuple[str, bytes]]


class Entry:
    """An account in memory."""

    __slots__ = ("handled", "lock", "sequence", "state")

    def __init__(self) -> None:
        self.state: Account | None = None
        self.sequence = 0
        self.handled: deque[tuple[str, bytes]] = deque(maxlen=8)
        self.lock = asyncio.Lock()


@asynccontextmanager
async def accounts(url: str, subject: str) -> AsyncIterator[object]:
    """Handle deposits with the steps of a turn: look up the id, publish with a sequence check, publish the event, reply.

    Each message gets a task, because nats-py runs the callbacks of a subscription one at a time.
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
