"""The rungs of the ladder below a whole actor: each adds one layer of the runtime to the layers under it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import nats
from nats.aio.msg import Msg

from bench.sides.actorloom import GetQuote
from bench.work import Quote, quote
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.turns.workers import Workers

REPLY = msgspec.json.encode(Quote("o-10283", 7548))
"""The reply of the rungs that do not decode requests."""

decode = msgspec.json.Decoder(GetQuote).decode
encode = msgspec.json.Encoder().encode


@asynccontextmanager
async def raw(url: str, subject: str) -> AsyncIterator[object]:
    """Answer every request with the same bytes, in a callback of raw nats-py."""

    async def handle(message: Msg) -> None:
        await message.respond(REPLY)

    connection = await nats.connect(url)
    await connection.subscribe(subject, queue="q", cb=handle)
    await connection.flush()
    yield object()
    await connection.close()


class MailboxEntry:
    """A request in the mailbox."""

    __slots__ = ("connection", "message", "reply")

    def __init__(self, connection: Connection, reply: bytes, message: GetQuote) -> None:
        self.connection = connection
        self.reply = reply
        self.message = message

    async def run(self) -> None:
        """Price the order and respond, in a worker's task."""
        self.connection.respond(self.reply, encode(quote(self.message)))  # type: ignore[arg-type]


@asynccontextmanager
async def rung(url: str, subject: str, height: str) -> AsyncIterator[object]:
    """Answer requests with the layers up to `height`: ``transport``, ``codec`` or ``mailbox``."""
    async with await Connection.connect(ConnectionOptions(url=url), name="ladder") as connection:
        respond = connection.respond
        failed: list[BaseException] = []
        workers = Workers(256, failed.append)

        def transport(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            respond(reply, REPLY)

        def codec(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            respond(reply, encode(quote(decode(payload))))  # type: ignore[arg-type]

        def mailbox(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            workers.put(MailboxEntry(connection, reply, decode(payload)))

        receiver = {"transport": transport, "codec": codec, "mailbox": mailbox}[height]
        await connection.subscribe(subject, receiver, queue="q")
        await connection.flush()
        yield object()
        await workers.close()
        if failed:
            raise failed[0]
