"""Two JetStream domains that a leaf node joins: one of them keeps the keys of an actor."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from runtime import Actor, Command, ConfigurationError, command
from runtime.admin.doctor import examine
from runtime.errors import PublishError
from runtime.nats.connection import Connection, ConnectionOptions, Response
from runtime.nats.jetstream.acks import decode_ack
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import OtherDomain
from runtime.storage.streams import dead_config, events_config, turns_config
from runtime.wire.subjects import Names
from tests.support.ports import free_ports
from tests.support.probe import running
from tests.support.raw_server import raw_server


class TakeIn(Command[int], actor="stock", key="sku"):
    sku: str


class Level(msgspec.Struct, frozen=True):
    count: int = 0


class Stock(Actor[Level]):
    name = "stock"

    @command
    async def up(self, message: TakeIn) -> int:
        level = self.state or Level()
        self.state = Level(level.count + 1)
        return level.count + 1


class Servers(NamedTuple):
    hub: str
    edge: str


@pytest.fixture
async def servers(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    hub, edge, leaf = free_ports(3)
    domain = f", domain: {request.param}" if request.param else ""
    config = (
        f'server_name: hub\nlisten: "127.0.0.1:{hub}"\njetstream {{ store_dir: "{tmp_path}/hub-js"{domain} }}\n'
        f'leafnodes {{ listen: "127.0.0.1:{leaf}" }}\n'
    )
    remote = (
        f'server_name: edge\nlisten: "127.0.0.1:{edge}"\njetstream {{ store_dir: "{tmp_path}/edge-js", domain: edge }}\n'
        f'leafnodes {{ remotes: [{{ url: "nats://127.0.0.1:{leaf}" }}] }}\n'
    )
    with raw_server(tmp_path / "hub", config), raw_server(tmp_path / "edge", remote):
        urls = Servers(f"nats://127.0.0.1:{hub}", f"nats://127.0.0.1:{edge}")
        async with (
            await Connection.connect(ConnectionOptions(url=urls.hub)) as one,
            await Connection.connect(ConnectionOptions(url=urls.edge)) as other,
        ):
            joined = asyncio.Event()
            await other.subscribe("joined", lambda *_: joined.set())
            while not joined.is_set():
                if one.is_connected:
                    one.publish("joined")
                await asyncio.sleep(0.01)
        yield urls


@pytest.mark.parametrize("servers", ["hub"], indirect=True)
async def test_a_second_actor_in_another_domain_does_not_serve(servers: Servers) -> None:
    async with running(Stock, url=servers.hub) as first:
        assert await first.bus.command(TakeIn("a")) == 1
        with pytest.raises(ConfigurationError, match="JetStream domain"):
            async with running(Stock, url=servers.edge):
                pass
        assert await first.bus.command(TakeIn("a")) == 2
    async with running(Stock, url=servers.hub) as again:
        assert await again.bus.command(TakeIn("a")) == 3


@pytest.mark.parametrize("servers", [""], indirect=True)
async def test_streams_in_both_domains_are_refused_and_named(servers: Servers) -> None:
    async with running(Stock, url=servers.hub) as first:
        await first.bus.command(TakeIn("a"))
    names = Names("stock")
    async with await Connection.connect(ConnectionOptions(url=servers.edge)) as connection:
        jetstream = JetStream(connection)
        for config in (turns_config, dead_config, events_config):
            await jetstream.ensure_stream(config(names))
        for _ in range(20):  # either domain may be the first to acknowledge
            try:
                ack = await jetstream.publish(names.checkpoint(), b"{}")
            except OtherDomain:
                continue
            assert ack.domain == "edge"
    for url in servers:
        with pytest.raises(ConfigurationError, match="more than one JetStream domain"):
            async with running(Stock, url=url):
                pass
        async with await Connection.connect(ConnectionOptions(url=url)) as connection:
            findings = [finding async for finding in examine(connection)]
        [found] = [finding for finding in findings if "JetStream domain" in finding.text]
        assert found.status == "fail"
        assert "edge" in found.text


def test_an_acknowledgement_of_another_domain_is_no_acknowledgement() -> None:
    reply = Response(None, b'{"stream":"stock-turns","domain":"edge","seq":1}')
    assert decode_ack(reply, "stock.turn.a", "edge").sequence == 1
    assert decode_ack(reply, "stock.turn.a", None).sequence == 1
    for domain in ("", "hub"):
        with pytest.raises(OtherDomain, match=r"stock\.turn\.a was acknowledged by JetStream domain 'edge'") as caught:
            decode_ack(reply, "stock.turn.a", domain)
        assert isinstance(caught.value, TimeoutError)
        assert not isinstance(caught.value, PublishError)
