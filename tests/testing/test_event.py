"""`System.event`: a test waits for events since its start, and gets each once."""

import asyncio

import msgspec
import pytest

from runtime import Actor, CodecError, Command, DeclarationError, Event, command, react
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.testing import running


class Placed(Event, actor="shop", key="order_id", rename="camel"):
    order_id: str
    total: int = 0


class Shipped(Event, actor="stock", key="order_id"):
    order_id: str


class Place(Command[None], actor="shop", key="order_id"):
    order_id: str
    total: int = 0


class Order(msgspec.Struct, frozen=True):
    total: int = 0


class Shop(Actor[Order]):
    name = "shop"

    @command
    async def place(self, message: Place) -> None:
        self.state = Order(message.total)
        self.emit(Placed(message.order_id, message.total))


class Stock(Actor[Order]):
    name = "stock"

    @react
    async def on_placed(self, event: Placed) -> None:
        self.state = Order(event.total)
        self.emit(Shipped(event.order_id))


async def test_events_since_the_start_come_once_whoever_emits_them(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Shop, Stock, url=nats_server.url, namespace=namespace) as system:
        waiting = asyncio.create_task(system.event(Shipped, where={"order_id": ["2"]}))
        await system.bus.command(Place("1", 10))
        assert await system.event(Shipped) == Shipped("1")
        # The event was emitted before this call.
        assert await system.event(Placed, where={"total": [{"numeric": [">", 5]}]}) == Placed("1", 10)
        await system.bus.command(Place("2", 3))
        assert await waiting == Shipped("2")
        tapped = await system.event("shop.event.*")
        assert (tapped.type, tapped.key, tapped.body) == ("shop.Placed", "2", {"orderId": "2", "total": 3})
        (traced,) = [each for each in system.trace_of(tapped.trace) if each.name == "shop/place"][:1]
        assert traced.trace_id == tapped.trace
        with pytest.raises(TimeoutError, match=r"no Placed where .* within 0.2 s; .*returned: none"):
            await system.event(Placed, where={"total": [3]}, timeout=0.2)
        await system.bus.command(Place("3", 1))
        assert await system.event("stock.Shipped", trace="")
        with pytest.raises(
            TimeoutError, match=r"no stock.event.shipped.7 within 0.2 s; .*returned: shop\.Placed \(1\)"
        ):
            await system.event("stock.event.shipped.7", timeout=0.2)
        with pytest.raises(DeclarationError, match="is not the class of an event"):
            await system.event(Place)  # type: ignore[type-var]


async def test_events_before_the_start_and_a_crash(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Shop, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Place("before"))
    async with running(Shop, Stock, url=nats_server.url, namespace=namespace) as system:
        await system.event(
            Shipped, where={"order_id": ["before"]}
        )  # the reaction is new, the event it reacts to is not
        await system.bus.command(Place("1"))
        await system.crash()
        assert await system.event(Placed) == Placed("1")
        await system.restart()
        await system.bus.command(Place("2"))
        assert await system.event(Placed) == Placed("2")
        await JetStream(system.bus.connection).publish(f"{namespace}.shop.event.placed.7", b'{"orderId":7}')
        with pytest.raises(CodecError, match=rf"shop\.event\.placed\.7, sequence 4 of {namespace}-shop-events: "):
            await system.event(Placed)
