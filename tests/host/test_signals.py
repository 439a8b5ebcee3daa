"""Signals, sent to real processes: the second one ends a process at once, in each phase and whatever its code does."""

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path

from runtime import connect
from runtime.nats.server import EmbeddedServer
from tests.support.process import running_command
from tests.support.unusual import Act

ROOT = Path(__file__).parents[2]


TERM, INT = signal.SIGTERM, signal.SIGINT

PHASES = [
    ({"ON_START": "sleeps"}, None, "blocks", INT, "in _sleep"),
    ({"ON_START": "deaf"}, None, "deaf", TERM, "draining"),
    ({}, Act("k", "spins"), "blocks", INT, "in _spin"),
    ({}, Act("k", "hashes"), "blocks", TERM, "in _hash"),
    ({}, Act("k", after="sleeps"), "blocks", TERM, "in call_back"),
    ({}, Act("k", task="hang"), "hangs", TERM, "draining"),
    ({"ON_STOP": "deaf"}, None, "ready:", INT, "deaf"),
    ({"ON_STOP": "hashes"}, None, "ready:", TERM, "blocks"),
]
"""Variables of the process, a message to it, a line before the first signal, the signal, and a line before the second one."""


async def test_a_second_signal_ends_the_process_at_once_in_each_phase(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async def check(
        number: int, environ: Mapping[str, str], message: Act | None, line: str, sent: signal.Signals, after: str
    ) -> None:
        space = f"{namespace}-{number}"
        ready = "ready:" if message is not None else line
        async with (
            connect(nats_server.url, namespace=space) as bus,
            running_command(
                "run", "tests.support.unusual:Odd", "--nats", nats_server.url, "--namespace", space,
                cwd=ROOT, env={**environ, "REPORT_SOON": "1"}, ready=ready,
            ) as process,
        ):  # fmt: skip
            asked = None if message is None else asyncio.ensure_future(bus.command(message, timeout=60))
            await process.until(line)
            process.signal(sent)
            if after.startswith("in "):
                await process.until(f"{sent.name}: the event loop is blocked")
            await process.until(after)
            process.signal(sent)
            assert await process.wait(timeout=10) == 128 + sent
            if asked is not None:
                asked.cancel()

    async with asyncio.TaskGroup() as group:
        for number, phase in enumerate(PHASES):
            group.create_task(check(number, *phase))


async def test_a_second_signal_ends_the_export_of_the_last_spans(nats_server: EmbeddedServer, namespace: str) -> None:
    exporting = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exporting.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as collector:
        port = collector.sockets[0].getsockname()[1]
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_BSP_SCHEDULE_DELAY": "60000"}
        flags = ("--nats", nats_server.url, "--namespace", namespace)
        async with (
            connect(nats_server.url, namespace=namespace) as bus,
            running_command("run", "tests.support.unusual:Odd", *flags, cwd=ROOT, env=environ) as process,
        ):
            assert await bus.command(Act("k")) == 1
            process.signal(TERM)
            await exporting.wait()
            process.signal(TERM)
            assert await process.wait(timeout=10) == 128 + TERM
