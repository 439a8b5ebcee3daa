"""The end of an ownership: whatever the code of an actor does, its lease is given back within the stated bounds.

Each test has two processes: connections and runners of their own. The second one is in standby.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanProcessor

from runtime import Actor, RequestError
from runtime.host import drain, hooks
from runtime.host.host import Deployment
from runtime.host.process import Runner, shut_down
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.lease import Lease
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import Tracing
from runtime.turns import workers
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.hanging import Do, Happened, Job, Later, Look, Sloth, Slow
from tests.support.probe import Probe
from tests.support.waiting import until


@pytest.fixture(autouse=True)
async def _quick(monkeypatch: pytest.MonkeyPatch, namespace: str) -> AsyncIterator[None]:
    monkeypatch.setattr(drain, "_DRAIN_TIMEOUT", 0.2)
    monkeypatch.setattr(workers, "CLOSE_GRACE", 0.1)
    monkeypatch.setattr(workers, "LAST_GRACE", 0.1)
    monkeypatch.setattr(hooks, "GRACE", 0.1)
    monkeypatch.setattr(hooks, "_STOP_TIMEOUT", 0.1)
    yield
    gate(namespace).set()  # The event loop waits for all its tasks.


@asynccontextmanager
async def process(
    server: EmbeddedServer, namespace: str, *actors: type[Actor[Any]]
) -> AsyncIterator[tuple[Probe, asyncio.Future[None]]]:
    async with await Connection.connect(ConnectionOptions(url=server.url)) as connection:
        runner = Runner(actors, connection, Tracing(in_memory=True), Deployment(namespace=namespace, lease_ttl=1.0))
        work = asyncio.ensure_future(runner.run())
        try:
            yield Probe.of(runner), work
        finally:
            runner.stop()
            await asyncio.wait({work}, timeout=10)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def _drain(one: Probe, work: asyncio.Future[None]) -> None:
    one.runner.stop()


async def _lose(one: Probe, work: asyncio.Future[None]) -> None:
    thief = b'{"holder":"thief","since":0,"host":"elsewhere","pid":1}'
    namespace = one.served("slow").namespace
    await JetStream(one.connection).publish(
        f"$KV.{namespace}-leases.slow.0", thief, headers=b"NATS/1.0\r\nNats-TTL: 1s\r\n\r\n"
    )


async def _fail(one: Probe, work: asyncio.Future[None]) -> None:
    one.crash("slow")


async def _fail_beside(one: Probe, work: asyncio.Future[None]) -> None:
    one.fail_for_good("sloth")


async def _cancel(one: Probe, work: asyncio.Future[None]) -> None:
    work.cancel()


@pytest.mark.parametrize("end", [_drain, _lose, _fail, _fail_beside, _cancel])
async def test_a_successor_serves_though_no_handler_of_the_former_owner_ends(
    nats_server: EmbeddedServer, namespace: str, end: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    deaf, late = f"deaf {namespace}", f"late {namespace}"
    async with process(nats_server, namespace, Slow, Sloth) as (one, work):
        await one.until_ready("slow")
        async with process(nats_server, namespace, Slow, Sloth) as (two, _):
            await until(lambda: two.is_standby("slow"))
            bus = two.bus
            asked = [
                asyncio.ensure_future(request)
                for how in (deaf, late)
                for request in (
                    bus.command(Do(f"do {how}", how), timeout=20),
                    bus.query(Look(f"look {how}", how), timeout=20),
                )
            ]
            for how in (deaf, late):
                await bus.command(Later(f"later {how}", how))
                await bus.command(Job(f"job {how}", how))
                await bus.emit(Happened(f"event {how}", how))
            await until(lambda: RUN_COUNTS[f"hang {deaf}"] == RUN_COUNTS[f"hang {late}"] == 5)
            former = one.ownership("slow")
            await end(one, work)
            # After a lost lease, the first process may be its own successor.
            await until(lambda: one.ownership("slow") is not former and (one.is_ready("slow") or two.is_ready("slow")))
            for message in (Do(f"do {deaf}"), Do("another")):
                assert await bus.command(message) == 1, "nothing of the former owner's turn is stored"
            errors = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(error, RequestError) for error in errors), errors
            gate(namespace).set()
            await until(lambda: RUN_COUNTS[f"over {namespace}"] >= 5)
            assert await bus.command(Do(f"do {deaf}")) == 2, "its end has no effect"
            assert await bus.query(Look("late")) == 0
    assert RUN_COUNTS[f"refused {namespace}"] >= 4 * 5


async def test_a_cancelled_end_gives_the_lease_back(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller may cancel the runner more than once. The release is not cut by that."""
    releasing, released, release = asyncio.Event(), asyncio.Event(), Lease.release

    async def slowly(self: Lease, settled: bool = True) -> None:
        releasing.set()
        await asyncio.sleep(0)
        await release(self, settled)
        released.set()

    async with process(nats_server, namespace, Slow) as (one, _):
        await one.until_ready("slow")
        monkeypatch.setattr(Lease, "release", slowly)
        (host,) = (task for task in asyncio.all_tasks() if "Host.run" in str(task.get_coro()))
        host.cancel()
        await releasing.wait()
        host.cancel()
        await asyncio.wait({host})
        assert released.is_set()


async def test_an_exporter_that_does_not_end_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck(SpanProcessor):
        def shutdown(self) -> None:
            ends.wait()

    ends = threading.Event()
    monkeypatch.setattr("runtime.host.process._SHUTDOWN_TIMEOUT", 0.1)
    tracing = Tracing(in_memory=True)
    tracing.add_span_processor(Stuck())
    await shut_down(tracing)
    ends.set()
    assert "the exporters of spans and metrics have not ended within 0.1 s" in caplog.text
