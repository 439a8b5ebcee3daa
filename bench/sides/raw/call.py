"""The calling side: requests for quotes and deposits."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import nats
from nats.aio.client import Client

from bench import load
from bench.work import ORDER, Account, Deposit, Quote, QuoteRequest


class Caller:
    """Sends requests with `Client.request`."""

    def __init__(self, connection: Client, subject: str) -> None:
        self.connection = connection
        self.subject = subject

    async def quotes(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """Request quotes in a closed loop."""
        request, subject, encode = self.connection.request, self.subject, msgspec.json.encode
        decode, message = msgspec.json.Decoder(Quote).decode, QuoteRequest(**ORDER)

        async def send(_: int) -> Quote:
            return decode((await request(subject, encode(message), timeout=5)).data)

        return await load.closed_loop(send, in_flight, seconds)

    async def deposits(self, in_flight: int, seconds: float, keys: int) -> dict[str, Any]:
        """Make deposits in a closed loop. Worker n uses the account n modulo `keys`."""
        request, subject, encode = self.connection.request, self.subject, msgspec.json.encode
        decode = msgspec.json.Decoder(Account).decode

        async def send(number: int) -> Account:
            message = Deposit(f"account-{number % keys}", 5)
            headers = {"Idempotency-Key": uuid.uuid4().hex}
            return decode((await request(subject, encode(message), timeout=5, headers=headers)).data)

        return await load.closed_loop(send, in_flight, seconds)


@asynccontextmanager
async def caller(url: str, subject: str) -> AsyncIterator[Caller]:
    """Provide the caller of quotes and deposits."""
    connection = await nats.connect(url)
    yield Caller(connection, subject)
    await connection.close()
