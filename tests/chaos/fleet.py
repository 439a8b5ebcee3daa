"""Actor processes: started, watched, restarted when they end, killed, paused and measured."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import forked

ROOT = Path(__file__).resolve().parents[2]

_LOG_ERRORS = re.compile(r"Traceback \(most recent call last\)|never retrieved|never awaited")
_RESTART_PAUSE = 0.2
"""Seconds between two starts of a process that ends at once."""


@dataclass
class Program:
    """The command line of a process. Each life of the process gets the next of `kills` as its fault point."""

    name: str
    arguments: list[str]
    kills: list[str] = field(default_factory=list)
    keep: bool = True
    """Start the process again when it ends."""
    inside: tuple[str, ...] = ()
    """The beginning of the command line, for a process in a network namespace."""
    ready: str = " ready\n"
    """What the process logs when it serves or is a standby."""

    @property
    def can_fork(self) -> bool:
        """Whether the process may be forked: it must be in no other network, and change no clock before its imports."""
        return not self.inside and "tests.support.wall_clock" not in self.arguments


class Worker:
    """A program that runs in one process after another, its lives."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program = program
        self.log = log
        self.process: asyncio.subprocess.Process | forked.Forked | None = None
        self.exit_codes: list[int] = []
        """Exit codes of the lives that have ended (negative: the signal)."""
        self.armed = ""
        """Fault point of the current life."""
        self.stopping = False

    @property
    def pid(self) -> int:
        """The process id of the current life.

        Raises:
            ProcessLookupError: No process runs.
        """
        if self.process is None or self.process.returncode is not None:
            raise ProcessLookupError(f"{self.program.name} is not running")
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def signal(self, number: int) -> bool:
        """Send a signal; return False if no process runs."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> bool:
        return self.signal(signal.SIGKILL)

    async def ready(self, timeout: float = 30.0) -> None:
        """Return once the current life serves or is a standby.

        Raises:
            TimeoutError: It is not ready within `timeout` seconds.
        """
        lives = len(self.exit_codes) + 1
        await until(
            lambda: self.log.exists() and self.log.read_text().count(self.program.ready) >= lives,
            timeout,
            self.program.name,
        )

    async def wait(self, timeout: float) -> int:
        """Return the exit code of the current life once it has ended.

        Raises:
            TimeoutError: It does not end within `timeout` seconds.
        """
        assert self.process is not None
        async with asyncio.timeout(timeout):
            return await self.process.wait()

    async def killed_as_armed(self, timeout: float) -> None:
        """Return once every kill of the program has happened; the next life is not armed.

        Raises:
            TimeoutError: They have not all happened within `timeout` seconds.
        """
        kills = len(self.program.kills)
        await until(lambda: len(self.exit_codes) >= kills, timeout, f"{kills} kills of {self.program.name}")

    def children(self) -> list[int]:
        """Return the ids of the processes that the process has started and that run."""
        return list(map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()))

    def rss(self) -> int:
        """Return the resident memory in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def handles(self) -> int:
        """Return the number of open file descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def log_errors(self) -> list[str]:
        """Return the lines of the log that must not occur: stack traces, and asyncio's warnings of forgotten tasks."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        found: list[str] = []
        for number, line in enumerate(lines):
            if _LOG_ERRORS.search(line):
                found.append(f"{self.log}:{number + 1}: " + " | ".join(lines[max(number - 1, 0) : number + 1]))
        return found


class Fleet:
    """The actor processes of one cell. As a context manager it kills all of them at the end of the block.

    Args:
        directory: The directory of the logs.
        forks: Fork the processes from one that has imported the runtime, which saves the time of an interpreter's start.
    """

    def __init__(self, directory: Path, *, forks: bool = False) -> None:
        self.directory = directory
        self._forks = forks
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
            # The next iteration kills a process that is just being started.
            _, watching = await asyncio.wait(watching, timeout=0.1)

    def start(self, program: Program) -> Worker:
        """Start a program and keep it running. Return its worker at once, before it is ready."""
        number = sum(worker.program.name == program.name for worker in self.workers)
        worker = Worker(program, self.directory / f"{program.name}-{number}.log")
        self.workers.append(worker)
        self._watching.append(asyncio.get_running_loop().create_task(self._watch(worker)))
        return worker

    async def retire(self, worker: Worker, number: int = signal.SIGTERM, timeout: float = 30.0) -> int:
        """End a worker for good with a signal, and return its exit code.

        Raises:
            TimeoutError: It does not end within `timeout` seconds.
        """
        worker.stopping = True
        worker.signal(number)
        return await worker.wait(timeout)

    def forget(self, worker: Worker) -> None:
        """Leave a worker that has ended out of all checks."""
        self.workers.remove(worker)

    def log_errors(self) -> list[str]:
        return [line for worker in self.workers for line in worker.log_errors()]

    @property
    def kills(self) -> int:
        """Number of lives that SIGKILL ended."""
        return sum(code == -signal.SIGKILL for worker in self.workers for code in worker.exit_codes)

    async def _watch(self, worker: Worker) -> None:
        kills = iter(worker.program.kills)
        while not worker.stopping:
            begun = time.monotonic()
            worker.armed = next(kills, "")
            armed = ["--kill", worker.armed] if worker.armed else []
            with worker.log.open("ab") as log:
                arguments = [*worker.program.arguments, *armed]
                if self._forks and worker.program.can_fork:
                    worker.process = await forked.start(
                        *arguments, cwd=ROOT, env=_environment(), stdout=log.fileno(), stderr=log.fileno()
                    )
                else:
                    worker.process = await asyncio.create_subprocess_exec(
                        *worker.program.inside, sys.executable, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=log,
                        stderr=log, cwd=ROOT, start_new_session=True, env=_environment(),
                    )  # fmt: skip
            code = await worker.process.wait()
            worker.exit_codes.append(code)
            if not worker.program.keep:
                return
            if time.monotonic() - begun < _RESTART_PAUSE and not worker.stopping:
                await asyncio.sleep(_RESTART_PAUSE)


def _environment() -> dict[str, str]:
    """Return the environment without settings of the runtime, so that arguments alone configure a process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "NATS_", "ACTORLOOM_"))}
    return {**kept, "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "PYTHONUNBUFFERED": "1"}


async def until(condition: Callable[[], bool], timeout: float, goal: str) -> None:
    """Return as soon as `condition` holds.

    Raises:
        TimeoutError: It does not hold within `timeout` seconds. The text contains `goal`.
    """
    try:
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise TimeoutError(f"{goal}: not within {timeout:g} s") from None


@contextlib.contextmanager
def paused(workers: Iterable[Worker]) -> Iterator[None]:
    """Stop the workers with SIGSTOP for the duration of the block, and continue them with SIGCONT."""
    stopped = [worker for worker in workers if worker.signal(signal.SIGSTOP)]
    try:
        yield
    finally:
        for worker in stopped:
            worker.signal(signal.SIGCONT)


@contextlib.contextmanager
def suspended(workers: Iterable[Worker]) -> Iterator[None]:
    """Stop the workers as the suspension of their machine does: `time.monotonic` does not count the time of the block.

    The workers must be started with ``suspendable``.
    """
    stopped = [worker for worker in workers if worker.signal(signal.SIGSTOP)]
    try:
        yield
    finally:
        for worker in stopped:
            worker.signal(signal.SIGUSR1)  # handled when the process continues, before anything else
            worker.signal(signal.SIGCONT)
