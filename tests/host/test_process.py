"""The runner: signals, names and readiness. The signals are sent to real processes."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from runtime import NotDelivered, connect
from runtime.errors import ConfigurationError
from runtime.host.host import Deployment
from runtime.host.process import Runner
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import Tracing
from tests.support.counting import Add, Counter, Wait
from tests.support.process import running_command

ROOT = Path(__file__).parents[2]


def arguments(url: str, namespace: str) -> tuple[str, ...]:
    return ("run", "tests.support.counting:Counter", "--nats", url, "--namespace", namespace, "--lease-ttl", "1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_exits_zero(
    nats_server: EmbeddedServer, namespace: str, number: signal.Signals
) -> None:
    async with (
        connect(nats_server.url, namespace=namespace) as bus,
        running_command(*arguments(nats_server.url, namespace), cwd=ROOT) as process,
    ):
        assert (await bus.command(Add("a", 5))).value == 5
        sending = [asyncio.ensure_future(bus.command(Add("a"), timeout=10)) for _ in range(50)]
        await bus.connection.flush()
        process.signal(number)
        answers = await asyncio.gather(*sending, return_exceptions=True)
        assert all(
            not isinstance(each, BaseException) or (isinstance(each, NotDelivered) and each.executed is False)
            for each in answers
        )
        assert await process.wait() == 0
        assert "Traceback" not in process.text


async def test_a_second_signal_ends_the_process_at_once(nats_server: EmbeddedServer, namespace: str) -> None:
    async with (
        connect(nats_server.url, namespace=namespace) as bus,
        running_command(*arguments(nats_server.url, namespace), cwd=ROOT) as process,
    ):
        unfinished = asyncio.ensure_future(bus.command(Wait("forever"), timeout=20))
        await bus.connection.flush()
        process.signal(signal.SIGTERM)
        await process.until("draining")
        start = time.monotonic()
        process.signal(signal.SIGTERM)
        assert await process.wait() != 0
        assert time.monotonic() - start < 5
        unfinished.cancel()
        await asyncio.gather(unfinished, return_exceptions=True)


async def test_two_actors_of_one_name_are_refused(nats_server: EmbeddedServer) -> None:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        with pytest.raises(ConfigurationError, match="two actors have the same name: counter"):
            Runner([Counter, Counter], connection, Tracing())


async def test_a_runner_gives_the_reasons_why_it_is_not_ready(nats_server: EmbeddedServer, namespace: str) -> None:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        runner = Runner([Counter], connection, Tracing(), Deployment(namespace=namespace))
        assert runner.unready_reasons() == ["counter is starting"]
        work = asyncio.ensure_future(runner.run())
        await asyncio.wait_for(runner.wait_ready(), 10)
        assert runner.unready_reasons() == []
        runner.stop()
        assert runner.unready_reasons() == ["draining"]
        await asyncio.wait_for(work, 10)
