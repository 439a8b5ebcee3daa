"""Actor processes: started, watched, started again when they die, killed, paused and counted."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_COMPLAINTS = re.compile(r"Traceback \(most recent call last\)|never retrieved|never awaited")
_TEMPERATE = 0.2
"""Seconds between starts of a process that ends at once."""


@dataclass
class Program:
    """How to start one process: its module's arguments; `kills` are given to it one life after the other."""

    name: str
    arguments: list[str]
    kills: list[str] = field(default_factory=list)
    keep: bool = True
    """Whether it is started again when it ends."""


class Worker:
    """One process slot: a program that runs, one life after the other."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program = program
        self.log = log
        self.process: asyncio.subprocess.Process | None = None
        self.deaths: list[int] = []
        """Return codes (negative: the signal) of the lives that have ended."""
        self.armed = ""
        self.stopping = False

    @property
    def pid(self) -> int:
        """The process id of the life that runs now; ProcessLookupError where none does."""
        if self.process is None or self.process.returncode is not None:
            raise ProcessLookupError(f"{self.program.name} does not run")
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def signal(self, number: int) -> bool:
        """Send a signal; False where the process has just gone."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> bool:
        return self.signal(signal.SIGKILL)

    async def ready(self, timeout: float = 30.0) -> None:
        """Return when the life that runs now serves or stands by. Raises `TimeoutError`."""
        lives = len(self.deaths) + 1
        await until(
            lambda: self.log.exists() and self.log.read_text().count(" ready\n") >= lives, timeout, self.program.name
        )

    async def ended(self, timeout: float) -> int:
        """Return the code with which the life that runs now ends. Raises `TimeoutError`."""
        assert self.process is not None
        async with asyncio.timeout(timeout):
            return await self.process.wait()

    def rss(self) -> int:
        """Bytes of memory in use."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def handles(self) -> int:
        """Open file descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def complaints(self) -> list[str]:
        """What no log may hold: stack traces, and what asyncio says of forgotten tasks."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        found: list[str] = []
        for number, line in enumerate(lines):
            if _COMPLAINTS.search(line):
                found.append(f"{self.log}:{number + 1}: " + " | ".join(lines[max(number - 1, 0) : number + 1]))
        return found


class Fleet:
    """The actor processes of one cell. `async with`: all of them end with the block."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.workers: list[Worker] = []
        self._watching: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Fleet":
        return self

    async def __aexit__(self, *_: object) -> None:
        watching = set(self._watching)
        while watching:
            for worker in self.workers:
                worker.stopping = True
                worker.kill()
            # One that was just being started is met the next time round.
            _, watching = await asyncio.wait(watching, timeout=0.1)

    def start(self, program: Program) -> Worker:
        """Start a program and keep it running; return its slot at once."""
        number = sum(worker.program.name == program.name for worker in self.workers)
        worker = Worker(program, self.directory / f"{program.name}-{number}.log")
        self.workers.append(worker)
        self._watching.append(asyncio.get_running_loop().create_task(self._watch(worker)))
        return worker

    async def retire(self, worker: Worker, number: int = signal.SIGTERM, timeout: float = 30.0) -> int:
        """End a worker for good by a signal and return its code. Raises `TimeoutError` where it does not end."""
        worker.stopping = True
        worker.signal(number)
        return await worker.ended(timeout)

    def complaints(self) -> list[str]:
        return [line for worker in self.workers for line in worker.complaints()]

    @property
    def deaths(self) -> int:
        """Lives that ended by SIGKILL."""
        return sum(code == -signal.SIGKILL for worker in self.workers for code in worker.deaths)

    async def _watch(self, worker: Worker) -> None:
        kills = iter(worker.program.kills)
        while not worker.stopping:
            begun = time.monotonic()
            worker.armed = next(kills, "")
            armed = ["--kill", worker.armed] if worker.armed else []
            with worker.log.open("ab") as log:
                worker.process = await asyncio.create_subprocess_exec(
                    sys.executable, *worker.program.arguments, *armed, stdin=asyncio.subprocess.DEVNULL, stdout=log,
                    stderr=log, cwd=ROOT, start_new_session=True, env=_environment(),
                )  # fmt: skip
            code = await worker.process.wait()
            worker.deaths.append(code)
            if not worker.program.keep:
                return
            if time.monotonic() - begun < _TEMPERATE and not worker.stopping:
                await asyncio.sleep(_TEMPERATE)


def _environment() -> dict[str, str]:
    """The suite's own environment without other settings of ours: a process is what its arguments say."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "NATS_", "ACTORLOOM_"))}
    return {**kept, "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "PYTHONUNBUFFERED": "1"}


async def until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Return as soon as `condition` holds. Raises `TimeoutError` that says `what` was waited for."""
    try:
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise TimeoutError(f"{what}: not within {timeout:g} s") from None


@contextlib.contextmanager
def paused(workers: Iterable[Worker]):
    """SIGSTOP for the block, then SIGCONT."""
    stopped = [worker for worker in workers if worker.signal(signal.SIGSTOP)]
    try:
        yield
    finally:
        for worker in stopped:
            worker.signal(signal.SIGCONT)
