"""The whole shop by two workers, with eight partitions for each actor: by the `nats` command line, and by our bus."""

import asyncio
import shutil
from pathlib import Path

import pytest
from opentelemetry.trace import SpanKind
from rich.console import Console

from actorloom_shop.demo import _PRODUCTS, SERVICES, _Drive
from actorloom_shop.orders.messages import ListOrders
from actorloom_shop.products.messages import DeleteProduct
from runtime.admin.ownership import read_ownership
from runtime.client.bus import Bus
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import Tracing
from runtime.wire.subjects import Names
from tests.support.shell import ROOT, steps, terminal

NATS = pytest.mark.skipif(shutil.which("nats") is None, reason="the nats command line is not installed")
ORDERS = 4


@pytest.mark.timeout(180)
@pytest.mark.parametrize("stand_in", [True, pytest.param(False, marks=NATS)], ids=["stand-in", "nats"])
async def test_the_shop_of_two_workers_and_eight_partitions(stand_in: bool, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    async with (
        EmbeddedServer(port=0, store_dir=tmp_path / "nats") as server,
        terminal(home, server.url, stand_in=stand_in) as opened,
    ):
        # The page of the shop is played on the processes that the page on scaling starts.
        by_hand = [step for step in steps(ROOT / "docs" / "driving.md") if not step.text.startswith("actorloom run")]
        assert len(by_hand) > 40
        for step in [*steps(ROOT / "docs" / "scaling.md"), *by_hand]:
            await opened.play(step)
        async with await Connection.connect(ConnectionOptions(url=server.url)) as connection:
            await order_by_bus(connection)
            for service in SERVICES:
                ownership = await read_ownership(JetStream(connection), Names(service.name))
                assert [len(numbers) for numbers in ownership.owners.values()] == [4, 4], ownership
        await opened.stop()


async def order_by_bus(connection: Connection) -> None:
    """Take orders through the shop with a bus, at once, and list them from all partitions."""
    tracing = Tracing(in_memory=True)
    bus, root = (
        Bus(connection, tracing.service("customer")),
        tracing.service("customer").template("order", SpanKind.INTERNAL),
    )
    await bus.command(DeleteProduct("mug"))  # The page has another one.
    await asyncio.gather(*(bus.command(product) for product in _PRODUCTS))
    console = Console(quiet=True)
    orders = await asyncio.gather(*(_Drive(console, bus, root.start(None)).through() for _ in range(ORDERS)))
    assert {order.status for order in orders} == {"FULFILLED"}
    listed = await bus.query(ListOrders("ada"))
    assert {order.order_id for order in listed.orders} == {order.order_id for order in orders}
    assert len({order.order_id for order in orders}) == ORDERS
