"""The answering side: quotes by a callback, or by nats.micro."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import nats
import nats.micro
from nats.aio.msg import Msg

from bench.work import QuoteRequest, quote


@asynccontextmanager
async def pricing(url: str, subject: str) -> AsyncIterator[object]:
    """Answer quotes in a callback: decode, price, encode, respond."""
    decode, encode = msgspec.json.Decoder(QuoteRequest).decode, msgspec.json.encode

    async def handle(message: Msg) -> None:
        await message.respond(encode(quote(decode(message.data))))

    connection = await nats.connect(url)
    await connection.subscribe(subject, queue="q", cb=handle)
    await connection.flush()
    yield object()
    await connection.close()


@asynccontextmanager
async def micro(url: str) -> AsyncIterator[object]:
    """Answer quotes with nats.micro on ``micro.quote``."""
    decode, encode = msgspec.json.Decoder(QuoteRequest).decode, msgspec.json.encode

    async def handle(request: nats.micro.Request) -> None:
        await request.respond(encode(quote(decode(request.data))))

    connection = await nats.connect(url)
    service = await nats.micro.add_service(connection, name="micro", version="1.0.0")
    await service.add_endpoint(name="quote", subject="micro.quote", handler=handle)
    await connection.flush()
    yield object()
    await connection.close()
