"""A cluster that is not settled yet: processes that start meanwhile wait for it, and none ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime import Actor, ActorError
from runtime.errors import ConfigurationError, PublishError
from runtime.host.host import Deployment
from runtime.host.process import Runner
from runtime.nats.connection import Connection, ConnectionOptions, NotConnected, PermissionDenied
from runtime.nats.jetstream.acks import no_stream
from runtime.nats.jetstream.errors import ApiError, is_passing
from runtime.nats.jetstream.responses import ApiErrorBody
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import Tracing
from tests.chaos.servers import Servers
from tests.support.counting import Add, Counter, Watcher
from tests.support.probe import Probe
from tests.support.waiting import until


@pytest.mark.timeout(120)
async def test_a_process_that_starts_on_an_unsettled_cluster_waits_for_it(tmp_path: Path) -> None:
    servers = Servers(tmp_path, 3)
    first, second, third = servers.nodes
    try:
        await first.start()
        async with running(first, Counter, Watcher) as early:
            # One of three nodes: there is no leader, and JetStream does not answer.
            await until(lambda: all(host.failure for host in early.hosts), 30)
            assert [reason.partition(":")[0] for reason in early.unready_reasons()] == [
                "counter is starting",
                "watcher is starting",
            ]
            await asyncio.gather(second.start(), third.start())
            async with asyncio.timeout(60):
                await early.wait_serving()
            assert (await Probe.of(early).bus.command(Add("a"), timeout=10)).value == 1
            assert all(not each.restarts._counted for host in early.hosts for each in host.owners)
    finally:
        for node in servers.nodes:
            node.kill()


@asynccontextmanager
async def running(node: EmbeddedServer, *actors: type[Actor[Any]]) -> AsyncIterator[Runner]:
    """Run actors with three replicas on the connection to a node. None of them may end before the block does."""
    async with await Connection.connect(ConnectionOptions(url=node.url)) as connection:
        runner = Runner(actors, connection, Tracing(in_memory=True), Deployment(replicas=3))
        for host in runner.hosts:
            host.served.jetstream.timeout = 0.5
        work = asyncio.ensure_future(runner.run())
        try:
            yield runner
            assert not work.done(), work
        finally:
            runner.stop()
            await asyncio.wait_for(work, 30)


async def test_a_drain_ends_a_start_that_waits_for_the_server(tmp_path: Path) -> None:
    servers = Servers(tmp_path, 3)
    try:
        await servers.nodes[0].start()
        async with running(servers.nodes[0], Counter, Watcher) as runner:
            await until(lambda: runner.hosts[0].failure)
            runner.hosts[0].drain()
    finally:
        servers.nodes[0].kill()


@pytest.mark.parametrize(
    ("code", "err_code", "passing"),
    [
        (503, 10008, True),  # JetStream system temporarily unavailable
        (503, 0, True),  # no responders
        (503, 10076, True),  # JetStream not enabled
        (500, 10009, True),  # no leader
        (500, 10118, True),  # stream is offline
        (400, 10005, True),  # no suitable peers
        (500, 10074, False),  # replicas on a single server
        (500, 10006, False),
        (400, 10025, False),  # invalid JSON
        (404, 10059, False),
        (403, 0, False),
    ],
)
def test_which_refusals_pass(code: int, err_code: int, passing: bool) -> None:
    assert is_passing(ApiError("STREAM.CREATE.x", ApiErrorBody(code, err_code, "text"))) is passing


def test_which_other_errors_pass() -> None:
    assert is_passing(TimeoutError()) and is_passing(NotConnected("down")) and is_passing(no_stream("a"))
    for error in (
        PermissionDenied("no"),
        PublishError("refused", 10077),
        ConfigurationError("no"),
        OSError(),
        ActorError(),
    ):
        assert not is_passing(error)
