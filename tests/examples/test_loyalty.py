"""Loyalty: by rules alone, events of the shop become points and mails. Each takes effect once, though processes and answers are lost."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web

from examples.loyalty.gateway import Gateway, Mail
from examples.loyalty.points import Account, AddPoints, GetPoints, Loyalty, PointsAdded
from runtime import testing
from runtime.nats.server import EmbeddedServer
from runtime.router import Router, Rules, Targets
from tests.actors.shop import QUICK, SERVICES, Shop
from tests.support.probe import Probe, running
from tests.support.process import ROOT, Process, run_command, running_command

RULES = ROOT / "examples" / "loyalty" / "rules.yaml"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
OPTIONS = {service.name: QUICK for service in SERVICES}


class Served:
    """A gateway that runs. `lost` is the number of answers that are not sent from now on, `requests` that of the requests."""

    def __init__(self) -> None:
        self.gateway = Gateway()
        self.url = ""
        self.lost = 0
        self.requests = 0

    async def around(self, request: web.Request, handler: Any) -> Any:
        self.requests += 1
        response = await handler(request)
        if self.lost and request.transport is not None:
            self.lost -= 1
            request.transport.close()
        return response


@pytest.fixture
async def gateway() -> AsyncGenerator[Served]:
    served = Served()
    application = served.gateway.application()
    application.middlewares.append(web.middleware(partial(Served.around, served)))
    runner = web.AppRunner(application, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


class Cli:
    """The command line, for the namespace of a test."""

    def __init__(self, server: EmbeddedServer, namespace: str, directory: Path) -> None:
        self._flags = ("--nats", server.url, "--namespace", namespace)
        self._directory = directory

    async def __call__(self, *arguments: str, code: int = 0) -> str:
        done = await run_command(*arguments, *self._flags, cwd=self._directory)
        assert done.code == code, done
        return done.out

    async def apply(self, gateway: Served) -> None:
        """Put the rules of the example, for a gateway on another port."""
        text = RULES.read_text()
        assert "http://127.0.0.1:8025" in text
        (self._directory / "rules.yaml").write_text(text.replace("http://127.0.0.1:8025", gateway.url))
        await self("rules", "apply", "rules.yaml", "--yes")

    @asynccontextmanager
    async def router(self) -> AsyncGenerator[Process]:
        """Run a router in a process of its own. After its end, another one may take over soon."""
        flags = (*self._flags, "--lease-ttl", "1")
        async with running_command("run", "runtime.router", *flags, cwd=self._directory) as process:
            yield process


@pytest.fixture
def cli(nats_server: EmbeddedServer, namespace: str, tmp_path: Path) -> Cli:
    return Cli(nats_server, namespace, tmp_path)


async def points(system: testing.System, user: str, orders: int) -> Account:
    """Return the points of a user, once those of so many orders are booked."""

    async def account() -> Account | None:
        found = await system.bus.query(GetPoints(user))
        return found if found.orders >= orders else None

    found = await system.until(account)
    assert isinstance(found, Account)
    return found


async def fulfill(shop: Shop, user: str = "ann") -> str:
    """Take an order of 50 euros to its customer, and return its id."""
    order = await shop.create(user=user)
    await shop.pack(order["orderId"])
    await shop.deliver(order["orderId"])
    return str(order["orderId"])


async def test_a_fulfilled_order_gives_points_and_a_failed_delivery_a_mail(
    nats_server: EmbeddedServer, namespace: str, gateway: Served, cli: Cli
) -> None:
    actors = (*SERVICES, Loyalty, Router, Rules, Targets)
    async with running(*actors, url=nats_server.url, namespace=namespace, options=OPTIONS, sources=()) as system:
        shop = Shop(system, namespace)
        await asyncio.gather(shop.seed(), cli.apply(gateway))
        shop.trace = f"00-{TRACE}-00f067aa0ba902b7-01"
        order_id = await fulfill(shop)
        assert await system.event(PointsAdded) == PointsAdded("ann", order_id, 50)
        assert await points(system, "ann", 1) == Account("ann", points=50, orders=1)
        await system.until(lambda: route(system, "loyalty/add_points"))
        assert route(system, "loyalty/add_points")[0] == "delivery/complete_delivery"

        gateway.lost = 1
        failed = (await shop.create())["orderId"]
        await shop.pack(failed)
        await shop.deliver(failed, "fail")
        await system.until(lambda: gateway.requests == 2)
        text = "Call Ann in Paris, +33 1."
        [mail] = gateway.gateway.sent.values()
        assert mail == Mail("parcels@shop.example", f"Order {failed} was not delivered", text)
        await explained(shop, cli, order_id)
        assert (await system.bus.query(GetPoints("ann"))).orders == 1


def route(system: Probe, name: str) -> list[str]:
    """Return the names of the spans from a command of the shop to a span of this name, in the trace of the test."""
    spans = {span.span_id: span for span in system.trace_of(TRACE)}
    last = next((span for span in spans.values() if span.name == name), None)
    names: list[str] = []
    while last is not None:
        names.insert(0, last.name)
        last = spans.get(last.parent_id or "")
    return names


async def explained(shop: Shop, cli: Cli, order_id: str) -> None:
    """Check the answers of the command line about the events of an order."""
    events = await shop.events("orders", "order_modified")
    changes = [
        (stored.sequence, msgspec.json.decode(stored.payload)["new"]["status"])
        for stored in events
        if stored.subject.endswith(f".{order_id}")
    ]
    packed, fulfilled = (
        f"{shop.namespace}-orders-events:{next(at for at, status in changes if status == wanted)}"
        for wanted in ("PACKAGED", "FULFILLED")
    )
    who, yes, no = await asyncio.gather(
        cli("rules", "who", "delivery.DeliveryFailed"),
        cli("rules", "test", "points", "--event", fulfilled),
        cli("rules", "test", "points", "--event", packed, code=1),
    )
    assert "delivery-failed  yes      mail" in who
    assert "points           no       types" in who
    assert f'loyalty gets {{"userId":"ann","orderId":"{order_id}","spent":5000}}' in yes
    assert 'new.status is "PACKAGED", but the pattern wants ["FULFILLED"]' in no


async def test_points_are_booked_once_though_the_router_is_killed(
    nats_server: EmbeddedServer, namespace: str, gateway: Served, cli: Cli
) -> None:
    actors = (*SERVICES, Loyalty)
    async with running(*actors, url=nats_server.url, namespace=namespace, options=OPTIONS, sources=()) as system:
        shop = Shop(system, namespace)
        async with cli.router() as first:
            await asyncio.gather(shop.seed(), cli.apply(gateway))
            orders = asyncio.gather(*(fulfill(shop) for _ in range(5)))
            await points(system, "ann", 1)
            first.signal(signal.SIGKILL)
            await first.wait()
        fulfilled = await orders
        async with cli.router() as second:
            await points(system, "ann", 5)
            assert await second.stop() == 0  # after the deliveries that it has begun
        assert await points(system, "ann", 5) == Account("ann", points=5 * 50, orders=5)
        booked = [msgspec.json.decode(event.payload)["orderId"] for event in await shop.events("loyalty")]
        assert sorted(booked) == sorted(fulfilled)


async def test_the_gateway_sends_a_mail_once_for_each_key(gateway: Served) -> None:
    async with ClientSession() as session:

        async def post(body: Any, key: str = "1") -> int:
            headers = {"Idempotency-Key": key} if key else {}
            async with session.post(f"{gateway.url}/mails", json=body, headers=headers) as response:
                return response.status

        mail = {"to": "ann@example.org", "subject": "Hello", "text": ""}
        assert [await post(mail), await post(mail)] == [202, 200]
        assert [await post({**mail, "text": "other"}), await post({"to": "x"}, "2"), await post(mail, "")] == [
            422,
            422,
            400,
        ]
        async with session.get(f"{gateway.url}/mails") as response:
            assert await response.json() == [mail]


def test_points_are_those_of_full_euros() -> None:
    loyalty = testing.worker(Loyalty)
    asyncio.run(loyalty.add_points(AddPoints("ann", "1", spent=5099)))
    assert loyalty.state == Account("ann", points=50, orders=1)
