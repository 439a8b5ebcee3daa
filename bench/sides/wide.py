"""Large actors: thousands of endpoints, or an index over many stored keys."""

import asyncio
import itertools
import time
import types
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from bench import load
from bench.sides.actorloom import Accounts, ActorSide
from bench.work import Account, Quote
from runtime import Actor, Index, Query, query
from runtime.client.bus import Bus
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.options import Options
from runtime.storage.record import Handled, Record, encode_record
from runtime.telemetry import Tracing
from runtime.testing import running
from runtime.wire.subjects import Names


def query_types(count: int) -> list[type[Query[Quote]]]:
    """Return `count` query types of the actor ``wide``."""
    declared: list[Any] = []
    for number in range(count):
        body = {"__module__": __name__, "__annotations__": {"order_id": str}}
        declared.append(
            types.new_class(f"GetQuote{number}", (Query[Quote],), {"actor": "wide"}, lambda ns, b=body: ns.update(b))
        )
    return declared


def wide_actor(count: int) -> type[Actor[Any]]:
    """Return an actor class that answers all these queries."""
    handlers: dict[str, Any] = {"__module__": __name__, "name": "wide"}
    for number, question in enumerate(query_types(count)):

        async def handler(self: Any, message: Any) -> Any:
            return Quote(message.order_id, 1)

        handler.__name__ = handler.__qualname__ = f"get_quote{number}"
        handler.__annotations__ = {"message": question, "return": Quote}
        handlers[handler.__name__] = query(handler)
    return types.new_class("Wide", (Actor,), {}, lambda namespace: namespace.update(handlers))


@asynccontextmanager
async def actor(url: str, namespace: str, count: int) -> AsyncIterator[object]:
    """Serve `count` endpoints."""
    async with running(wide_actor(count), url=url, namespace=namespace, tracing=Tracing.from_env()) as system:
        yield ActorSide(system)


class Caller:
    """Queries the endpoints in turn."""

    def __init__(self, bus: Bus, kinds: list[type[Query[Quote]]]) -> None:
        self.bus = bus
        self.kinds = kinds

    async def use_all(self) -> None:
        """Query each endpoint once. What an endpoint makes at its first use exists afterwards."""
        for first in range(0, len(self.kinds), 64):
            messages = [kind(order_id="o-1") for kind in self.kinds[first : first + 64]]  # type: ignore[call-arg]
            await asyncio.gather(*map(self.bus.query, messages))

    async def quotes(self, in_flight: int, seconds: float, used: int | None = None) -> dict[str, Any]:
        """Query the first `used` endpoints, or all of them if None, in a closed loop."""
        ask = self.bus.query
        messages = itertools.cycle([kind(order_id="o-1") for kind in self.kinds[:used]])  # type: ignore[call-arg]
        return await load.closed_loop(lambda _: ask(next(messages)), in_flight, seconds)


@asynccontextmanager
async def caller(url: str, namespace: str, count: int) -> AsyncIterator[Caller]:
    """Provide the caller of `count` endpoints."""
    async with await Connection.connect(ConnectionOptions(url=url), name="bench") as connection:
        yield Caller(Bus(connection, Tracing.from_env().service("bench"), namespace=namespace), query_types(count))


class IndexedAccounts(Accounts):
    """Accounts with an index by balance."""

    name = "accounts"
    indexes = [Index(order="balance")]  # noqa: RUF012 - as a user declares it
    options = Options(resident=2_000_000, idle=3600.0)


@asynccontextmanager
async def indexed(url: str, namespace: str) -> AsyncIterator[ActorSide]:
    """Serve accounts with an index, which is built from the keys that are stored already."""
    async with running(IndexedAccounts, url=url, namespace=namespace, tracing=Tracing.from_env()) as system:
        yield ActorSide(system)


class Writer:
    """Writes records of many keys, in the form that turns leave."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.jetstream = JetStream(connection)
        self.names = Names("accounts", namespace)

    async def store(self, first: int, count: int) -> dict[str, float]:
        """Store `count` keys, numbered from `first`; return the seconds that it took."""
        numbers = iter(range(first, first + count))
        begun = time.perf_counter()

        async def worker() -> None:
            for number in numbers:
                key = f"stored-{number}"
                state = msgspec.Raw(msgspec.json.encode(Account(key, number, 1)))
                handled = [Handled(f"stored-by-bench-{number}", state, time.time(), "")]
                record = encode_record(Record(commit_id=str(number), state=state, handled=handled))
                await self.jetstream.publish(self.names.turn(key), record)

        await asyncio.gather(*(worker() for _ in range(256)))
        return {"seconds": time.perf_counter() - begun}


@asynccontextmanager
async def writer(url: str, namespace: str) -> AsyncIterator[Writer]:
    """Run the actor once, so that it creates its streams, and provide the writer."""
    async with running(Accounts, url=url, namespace=namespace, tracing=Tracing.from_env()):
        pass
    async with await Connection.connect(ConnectionOptions(url=url), name="writer") as connection:
        yield Writer(connection, namespace)
