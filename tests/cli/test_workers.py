"""`run --workers` as real processes: start, health, deaths of workers, signals, and the death of the parent."""

import asyncio
import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from runtime.backoff import Backoff
from runtime.cli import actorloom, worker_process, workers
from runtime.cli.channel import ORPHANED
from runtime.cli.failures import Failure
from runtime.cli.worker_process import Worker
from runtime.cli.workers import Workers
from runtime.nats.server import EmbeddedServer
from tests.support.process import Process, run_command, running_command, stop_process
from tests.support.waiting import until

SOURCE = """
import os, signal
import msgspec
from runtime import Actor, Command, Options, Query, command, query
from runtime.cli import link

link._ORPHANED = 0.5

class Greet(Query[str], actor="hello"):
    name: str

class Hello(Actor):
    name = "hello"

    @query
    async def greet(self, message: Greet) -> str:
        return f"Hello {message.name}"

class Count(msgspec.Struct, frozen=True):
    count: int = 0

class Add(Command[int], actor="parts", key="key"):
    key: str
    hang: bool = False

class Parts(Actor[Count]):
    name = "parts"
    options = Options(partitions=8)

    @command
    async def add(self, message: Add) -> int:
        while message.hang:
            signal.pause()
        self.state = Count((self.state or Count()).count + 1)
        return self.state.count

class Put(Command[int], actor="whole", key="key"):
    key: str

class Whole(Actor[Count]):
    name = "whole"

    @command
    async def put(self, message: Put) -> int:
        return 0
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "served.py").write_text(SOURCE)
    return tmp_path


def children(process: Process) -> list[int]:
    """Return the process ids of the workers, in the order of their start. The parent has no other children."""
    return [int(each) for each in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_ended(pid: int) -> None:
    """Wait for the end of a process, without the event loop."""
    while not ended(pid):
        time.sleep(0.001)


async def get(port: str, path: str) -> tuple[int, str]:
    def read() -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(read)


async def ready(port: str) -> None:
    async with asyncio.timeout(30):
        while (await get(port, "/readyz"))[0] != 200:
            await asyncio.sleep(0.02)


async def test_workers_serve_as_one_and_a_killed_one_is_started_again(
    nats_server: EmbeddedServer, here: Path, namespace: str
) -> None:
    flags = ("--nats", nats_server.url, "--namespace", namespace)
    more = ("--health-port", "0", "--workers", "2", "--lease-ttl", "1")
    async with running_command("run", "served", *flags, *more, cwd=here) as process:
        port = re.findall(r"health on http://127.0.0.1:(\d+)", process.text)[0]
        first = children(process)
        assert len(first) == 2
        await ready(port)
        status, text = await get(port, "/metrics")
        assert status == 200
        for worker in "01":
            assert f'actorloom_worker_up{{worker="{worker}"}} 1' in text
            assert f'rpc_server_call_duration_seconds_count{{worker="{worker}",service_name="parts"' in text
        assert text.count("# TYPE rpc_server_call_duration_seconds histogram") == 1
        os.kill(first[1], signal.SIGKILL)
        await process.until("worker 1 ended by SIGKILL; it is started again in 0.25 s")
        await process.until("worker 1 is ready again")
        await ready(port)
        assert 'actorloom_worker_restarts_total{worker="1"} 1' in (await get(port, "/metrics"))[1]
        for key in range(3):
            done = await run_command("command", "parts.add", f"key={key}", *flags, cwd=here)
            assert (done.code, done.out) == (0, "1\n"), done
        await stop_process(first[0])
        (alive, live), (_, readiness) = await asyncio.gather(get(port, "/livez"), get(port, "/readyz"))
        assert alive == 503 and json.loads(live)["reasons"] == ["worker 0 does not answer"]
        assert "worker 0 does not answer" in json.loads(readiness)["reasons"]
        os.kill(first[0], signal.SIGCONT)
        assert await process.stop() == 0
    lines = [json.loads(line) for line in process.text.splitlines()]
    assert [line["message"].startswith("ready: ") for line in lines].count(True) == 1
    assert any("fewer partitions than workers" in line["message"] and "whole (1)" in line["message"] for line in lines)
    assert {line.get("worker") for line in lines if "draining" in line["message"]} == {None, 0, 1}
    assert all(
        "worker" in line for line in lines if line["logger"] == "actorloom.host" and "on http" not in line["message"]
    )


async def test_a_wrong_start_is_one_message_and_the_exit_code_of_a_worker(here: Path) -> None:
    (here / "broken.py").write_text("1 / 0")
    wrong, unserved = await asyncio.gather(
        run_command("run", "broken", "--workers", "2", "--nats", "nats://127.0.0.1:1", cwd=here),
        run_command("run", "served", "--nats", "nats://127.0.0.1:1", cwd=here, env={"ACTORLOOM_WORKERS": "2"}),
    )
    assert (wrong.code, wrong.out, wrong.err.count("ZeroDivisionError")) == (2, "", 1)
    assert wrong.err.splitlines()[-1].startswith("Error: cannot import broken")
    assert (unserved.code, unserved.err.count("cannot connect to NATS")) == (4, 1)


@pytest.mark.parametrize("number", ["0", "-1", "257", "2.5", "two", "true"])
def test_a_number_of_workers_is_checked(number: str) -> None:
    refused = CliRunner().invoke(actorloom, ["run", "served", "--workers", number])
    assert refused.exit_code == 2 and "--workers" in refused.output, refused


async def test_no_worker_outlives_a_second_signal_or_its_parent(
    nats_server: EmbeddedServer, here: Path, namespace: str
) -> None:
    flags = ("--nats", nats_server.url, "--namespace", namespace, "--workers", "2")
    hang = '{"key":"1","hang":true}'
    more = ("--log-format", "text", "--health-port", "0")
    async with running_command("run", "served", *flags, *more, cwd=here) as process:
        port = re.findall(r"health on http://127.0.0.1:(\d+)", process.text)[0]
        pids = children(process)
        await run_command("command", "parts.add", hang, *flags[:4], "--timeout", "1", cwd=here)
        process.signal(signal.SIGTERM)
        await process.until("stopped")
        reasons = json.loads((await get(port, "/readyz"))[1])["reasons"]
        assert sum("has ended" in each for each in reasons) == sum("does not answer" in each for each in reasons) == 1
        process.signal(signal.SIGTERM)
        assert await process.wait(timeout=10) == 128 + signal.SIGTERM
        await until(lambda: all(map(ended, pids)))
    flags = ("--nats", nats_server.url, "--namespace", f"{namespace}-2", "--workers", "2")
    async with running_command("run", "served", *flags, cwd=here) as process:
        pids = children(process)
        await run_command("command", "parts.add", hang, *flags[:4], "--timeout", "1", cwd=here)
        for pid in pids:  # as the kernel does for each thread of a parent that is killed
            os.kill(pid, ORPHANED)
        process.signal(signal.SIGKILL)
        await until(lambda: all(map(ended, pids)))
        await process.until("the parent of this worker has ended")
        assert "SIGTERM" not in process.text, "a second one would end a worker without a drain"


async def test_a_signal_during_the_start_ends_all_workers(here: Path, nats_server: EmbeddedServer) -> None:
    flags = ("--workers", "2", "--health-port", "0", "--nats", nats_server.url)
    async with running_command("run", "served", *flags, cwd=here, ready="health on") as process:
        await until(lambda: len(children(process)) == 2)
        assert await process.stop() == 0
        assert "ready:" not in process.text and "Traceback" not in process.text


async def test_reload_restarts_workers_and_keeps_the_embedded_server(here: Path) -> None:
    (here / "actorloom.toml").write_text("workers = 2\n")
    async with running_command("run", "served", "--reload", "--log-format", "text", cwd=here) as process:
        await process.until("watching")
        (here / "served.py").write_text(SOURCE.replace("Hello {", "Goodbye {"))
        await process.until("ready:", 2)
        url = re.findall(r"embedded nats-server on (\S+),", process.text)
        answered = await run_command("query", "hello.greet", "name=Ada", "--nats", url[0], cwd=here)
        assert answered.out == '"Goodbye Ada"\n'
        process.signal(signal.SIGINT)
        assert await process.wait() == 0
        assert len(url) == 1 and "by 2 workers" in process.text


async def test_a_worker_that_has_just_ended_keeps_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    reaped, reap = threading.Event(), os.waitpid

    def late(pid: int, options: int) -> tuple[int, int]:
        reaped.wait(10)
        return reap(pid, options)

    monkeypatch.setattr(worker_process, "again", lambda *_: [sys.executable, "-S", "-c", "import os; os._exit(7)"])
    monkeypatch.setattr(os, "waitpid", late)
    worker = Worker(0)
    process = await worker.start(os.environ)
    wait_ended(process.pid)
    worker.signal(signal.SIGTERM)
    reaped.set()
    assert await worker.listen(process, asyncio.Event()) == 7


async def test_too_many_deaths_end_the_parent_with_the_exit_code_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    deaths: list[str] = []

    def dying(*arguments: str) -> list[str]:
        deaths.append(arguments[1])
        return [sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)"]

    monkeypatch.setattr(worker_process, "again", dying)
    monkeypatch.setattr(workers, "_BACKOFF", Backoff(first=0.001, longest=0.001))
    with pytest.raises(Failure, match=r"workers ended 6 times within 60 s, last: worker \d ended by SIGKILL") as raised:
        await asyncio.wait_for(Workers(2, os.environ).run(), 30)
    assert raised.value.exit_code == 128 + signal.SIGKILL
    assert set(deaths) == {"0", "1"} and len(deaths) >= 6
