"""Requests between actors of one process, with and without the server: the results are the same."""

import asyncio

import msgspec
import pytest
from opentelemetry import trace

from runtime import Actor, Command, InvalidMessage, NotDelivered, NotFound, Query, command, not_found, query
from runtime.client.raw import RawClient
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import Tracing
from runtime.wire.header_block import encode
from tests.support.probe import running


class Item(msgspec.Struct, frozen=True):
    name: str
    price: int


class GetItem(Query[Item], actor="stock", key="name"):
    name: str


class PutItem(Command[Item], actor="stock", key="name"):
    name: str
    price: int
    note: str = ""


class Buy(Command[int], actor="kiosk_b", key="name"):
    name: str


class Stock(Actor[Item]):
    name = "stock"

    @query
    async def get_item(self, message: GetItem) -> Item:
        return self.state or not_found(f"no {message.name}")

    @command
    async def put_item(self, message: PutItem) -> Item:
        self.state = Item(message.name, message.price)
        return self.state


class Sales(msgspec.Struct, frozen=True):
    total: int = 0


class Till(Actor[Sales]):
    name = "kiosk_b"

    @command
    async def buy(self, message: Buy) -> int:
        item = await self.query(GetItem(message.name))
        self.state = Sales((self.state or Sales()).total + item.price)
        return self.state.total


@pytest.mark.parametrize("loopback", [True, False])
async def test_nested_requests_skip_the_server_only_with_loopback(
    nats_server: EmbeddedServer, namespace: str, loopback: bool
) -> None:
    seen: list[bytes] = []
    watcher = await Connection.connect(ConnectionOptions(url=nats_server.url))
    await watcher.subscribe(f"{namespace}.stock.query.>", lambda subject, *_: seen.append(subject))
    await watcher.flush()
    async with watcher, running(Stock, Till, url=nats_server.url, namespace=namespace, loopback=loopback) as system:
        await system.bus.command(PutItem("pen", 3))
        assert await asyncio.gather(*(system.bus.command(Buy("pen")) for _ in range(5))) == [3, 6, 9, 12, 15]
        await system.connection.flush()
        await watcher.flush()
        assert bool(seen) is not loopback
        [trace] = {span.trace_id for span in system.trace_of() if span.name == "kiosk_b/buy"}
        assert {span.service for span in system.trace_of(trace)} >= {"kiosk_b", "stock"}


async def test_errors_are_the_same_with_loopback(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Stock, Till, url=nats_server.url, namespace=namespace, loopback=True) as system:
        with pytest.raises(NotFound, match="no pen") as missing:
            await system.bus.query(GetItem("pen"))
        assert missing.value.remote and missing.value.executed is False
        # A bus refuses the message before it sends it; other clients do not.
        client = RawClient(system.connection, namespace=namespace)
        error = (await client.command("stock", "put_item", b'{"name": "pen", "price": "dear"}')).error
        assert isinstance(error, InvalidMessage) and "price" in str(error)
        with pytest.raises(NotDelivered, match="at most"):
            await system.bus.command(PutItem("pen", 1, note="x" * (system.connection.max_payload + 1)))
        system.drain("stock")
        await system.until(lambda: not system.is_serving("stock"))
        with pytest.raises(NotDelivered, match="no process serves"):
            await system.bus.query(GetItem("pen"))


class IsTraced(Query[bool], actor="echo"):
    pass


class AskEcho(Query[bool], actor="relay"):
    pass


class Echo(Actor):
    name = "echo"

    @query
    async def is_traced(self, message: IsTraced) -> bool:
        return trace.get_current_span().get_span_context().is_valid


class Relay(Actor):
    name = "relay"

    @query
    async def ask_echo(self, message: AskEcho) -> bool:
        return await self.query(IsTraced())


async def test_a_worker_does_not_keep_the_context_of_its_first_caller(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    nothing_recorded = Tracing()
    parent = encode([("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")])
    async with running(
        Echo, Relay, url=nats_server.url, namespace=namespace, loopback=True, tracing=nothing_recorded
    ) as system:
        subject = f"{namespace}.relay.query.ask_echo"
        reply = await system.connection.request(subject, b"", headers=parent, timeout=5)
        assert reply.payload == b"true"
        assert await system.bus.query(IsTraced()) is False
