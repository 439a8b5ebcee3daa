"""Forks beside running actors: handlers that start processes get their answer, and children keep nothing of ours."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.nats.server import EmbeddedServer

ACTOR = """
import asyncio, concurrent.futures, multiprocessing, os, signal, socket, sys
from runtime import Actor, Query, query
from runtime.host.health import Health, HealthServer
from runtime.host.local import local
from runtime.host.signals import drain_on_signals

class Ask(Query[str], actor="forking"):
    how: str

def doubled(number):
    return 2 * number

def descriptors():
    "Return the peers of the connections, and the count of listening sockets, that this process has."
    connected, listening = 0, 0
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as copy:
                if copy.family != socket.AF_INET:
                    continue
                if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    listening += 1
                else:
                    copy.getpeername()
                    connected += 1
        except OSError:
            continue
    return f"{connected} {listening}"

def by_fork(report):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(report()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as lines:
        text = lines.read()
    os.waitpid(child, 0)
    return text

class Forking(Actor):
    name = "forking"

    @query
    async def ask(self, message: Ask) -> str:
        await asyncio.to_thread(int)
        context = multiprocessing.get_context("fork")
        match message.how:
            case "pool":
                with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
                    return str(await asyncio.get_running_loop().run_in_executor(pool, doubled, 21))
            case "process":
                process = context.Process(target=doubled, args=(21,))
                process.start()
                await asyncio.to_thread(process.join)
                return str(process.exitcode)
            case "fork":
                return by_fork(lambda: 42)
            case "in a thread":
                return await asyncio.to_thread(by_fork, lambda: 42)
            case "descriptors":
                return f"{descriptors()}, {by_fork(descriptors)}"
            case "terminate":
                process = context.Process(target=signal.pause)
                process.start()
                process.terminate()
                await asyncio.to_thread(process.join)
                return str(process.exitcode)
"""

LOCAL = f"""{ACTOR}
async def use():
    stopped = []
    with drain_on_signals(stopped.append):
        health = HealthServer("127.0.0.1", 0, Health(reasons=list, metrics=lambda: ("", "")))
        async with health, local(Forking, url=sys.argv[1], namespace=sys.argv[2]) as bus:
            for how in ("pool", "process", "fork", "in a thread", "descriptors", "terminate"):
                print(how, await bus.query(Ask(how), timeout=10), sep=": ", flush=True)
    print("stopped", stopped, flush=True)

asyncio.run(use())
asyncio.run(use())
"""

TWICE = f"""{ACTOR}
async def use():
    async with local(Forking) as bus:
        print(await bus.query(Ask("fork"), timeout=10), flush=True)

asyncio.run(use())
asyncio.run(use())
"""

INSTALLED = """
from opentelemetry import metrics, trace
from runtime.telemetry import Tracing

def show():
    print(type(metrics.get_meter_provider()).__name__, type(trace.get_tracer_provider()).__name__)

Tracing.from_env({}).install()
show()
Tracing.from_env({}).install(scraped=True)
show()
Tracing.from_env().install()
show()
"""

EXPORTED = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_METRICS_EXPORTER": "otlp"}


def program(text: str, *arguments: str, **environ: str) -> str:
    """Run a program and return its output. A hang of it ends the test by its timeout."""
    with subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=45)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a child that hangs as well
    assert process.returncode == 0, errors
    return output


@pytest.mark.parametrize("environ", [{}, EXPORTED], ids=["plain", "exported"])
async def test_a_handler_may_fork_after_a_thread(
    nats_server: EmbeddedServer, namespace: str, environ: dict[str, str]
) -> None:
    url = nats_server.url.replace("127.0.0.1", "localhost")  # a host name is looked up in a thread
    output = await asyncio.to_thread(program, LOCAL, url, namespace, **environ)
    once = (
        "pool: 42\nprocess: 0\nfork: 42\nin a thread: 42\n"
        "descriptors: 1 1, 0 0\n"  # neither the connection to NATS nor the health port is the child's
        "terminate: -15\nstopped []\n"  # a signal for a child reaches the child and not this process
    )
    assert output == once * 2


def test_local_runs_twice_in_a_process() -> None:
    assert program(TWICE, **EXPORTED) == "42\n42\n"


def test_no_global_provider_is_set_if_nothing_is_exported() -> None:
    assert program(INSTALLED, **EXPORTED).splitlines() == [
        "_ProxyMeterProvider ProxyTracerProvider",
        "ForkableProvider ProxyTracerProvider",
        "ForkableProvider LeanProvider",
    ]


def test_nothing_of_ours_runs_between_fork_and_exec() -> None:
    """A `preexec_fn` runs what other libraries registered for forks."""
    for path in (Path(__file__).parents[2] / "runtime").rglob("*.py"):
        assert "preexec_fn=" not in path.read_text(), path
