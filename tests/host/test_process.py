"""The runner: signals, names and readiness. The signals are sent to real processes."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import pytest

from runtime import HandlerFailed, NotDelivered, connect
from runtime.errors import ConfigurationError
from runtime.host.host import Deployment
from runtime.host.process import Runner
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import Tracing
from tests.support.counting import Add, Counter, Wait
from tests.support.process import run_command, running_command
from tests.support.unusual import Act, ActOddly, Happened

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
        await asyncio.wait_for(runner.wait_ready(), 30)
        assert runner.unready_reasons() == []
        runner.stop()
        assert runner.unready_reasons() == ["draining"]
        await asyncio.wait_for(work, 30)


ODD = ("tests.support.unusual:Odd", "tests.support.unusual:Oddly")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Act("k", "exit"), 3),
        (Act("k", task="exit"), 3),
        (Act("k", "interrupt"), 130),
    ],
    ids=["handler", "task of a handler", "interrupt"],
)
async def test_code_of_an_actor_that_exits_drains_the_process(
    nats_server: EmbeddedServer, namespace: str, message: Act, code: int
) -> None:
    async with (
        connect(nats_server.url, namespace=namespace) as bus,
        running_command("run", *ODD, *arguments(nats_server.url, namespace)[2:], cwd=ROOT) as process,
    ):
        beside = [asyncio.ensure_future(bus.command(Act("other"))) for _ in range(20)]
        await bus.connection.flush()
        # A handler that does not await its task is done; one that the drain finds still running was not executed.
        with contextlib.suppress(HandlerFailed, NotDelivered):
            await bus.command(message)
        assert await process.wait() == code
        answers = await asyncio.gather(*beside, return_exceptions=True)
        assert all(not isinstance(each, BaseException) or isinstance(each, NotDelivered) for each in answers)
        assert "the process drains and ends" in process.text and "cut short" not in process.text


async def test_an_event_that_ends_every_process_becomes_a_dead_letter(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with connect(nats_server.url, namespace=namespace) as bus:
        for start in range(6):
            # From the second start on, the event may run, and end the process, before the process is ready.
            ready = "" if start else "ready:"
            flags = arguments(nats_server.url, namespace)[2:]
            async with running_command("run", ODD[0], *flags, cwd=ROOT, ready=ready) as process:
                if not start:
                    await bus.emit(Happened("k", "exit"))
                ended = asyncio.ensure_future(process.wait())
                dead = asyncio.ensure_future(process.until("is a dead letter"))
                await asyncio.wait({ended, dead}, return_when=asyncio.FIRST_COMPLETED)
                if dead.done() and dead.exception() is None:
                    break
                await asyncio.gather(ended, dead, return_exceptions=True)
        else:
            pytest.fail("no dead letter after 6 processes")


@pytest.mark.parametrize("how", ["mute", "exit", "hang"])
async def test_on_stop_that_raises_does_not_cut_the_others_short(
    nats_server: EmbeddedServer, namespace: str, how: str
) -> None:
    async with (
        connect(nats_server.url, namespace=namespace) as bus,
        running_command(
            "run", *ODD, *arguments(nats_server.url, namespace)[2:], cwd=ROOT, env={"ON_STOP": how, "QUICK": "1"}
        ) as process,
    ):
        assert await bus.command(ActOddly()) == 1
        assert await process.stop() == (3 if how == "exit" else 1)
        text = "odd: on_stop was cut at its limit of 0.3 s" if how == "hang" else "odd: on_stop failed"
        assert text in process.text and "cut short" not in process.text


@pytest.mark.parametrize(("how", "code"), [("panic", 1), ("exit", 3), ("cancelled", 1)])
async def test_on_start_that_raises_ends_the_process_with_its_code(
    nats_server: EmbeddedServer, namespace: str, how: str, code: int
) -> None:
    ended = await run_command("run", *ODD, *arguments(nats_server.url, namespace)[2:], cwd=ROOT, env={"ON_START": how})
    assert ended.code == code, ended.err
    assert "odd" in ended.err


async def test_a_signal_ends_a_process_whose_on_start_does_not_end(nats_server: EmbeddedServer, namespace: str) -> None:
    arguments_of_odd = ("run", *ODD, *arguments(nats_server.url, namespace)[2:])
    async with running_command(*arguments_of_odd, cwd=ROOT, env={"ON_START": "hang"}, ready="hangs") as process:
        assert await process.stop() == 0
        assert "Traceback" not in process.text


@pytest.mark.parametrize("hook", ["on_start", "on_stop"])
async def test_a_process_ends_although_a_hook_does_not(nats_server: EmbeddedServer, namespace: str, hook: str) -> None:
    flags = arguments(nats_server.url, namespace)[2:]
    ready, environ = "deaf" if hook == "on_start" else "ready:", {hook.upper(): "deaf", "QUICK": "1"}
    async with (
        connect(nats_server.url, namespace=namespace) as bus,
        running_command("run", *ODD, *flags, cwd=ROOT, env=environ, ready=ready) as process,
        running_command("run", *ODD, *flags, cwd=ROOT) as other,
    ):
        assert await process.stop() == 1
        assert f"odd: {hook} was cancelled and has not ended" in process.text and "in _check_or_hang" in process.text
        assert f"a hook does not end: odd: {hook}" in process.text
        await other.until("odd: serves")
        assert await bus.command(Act("k")) == 1
