"""A process of actors that is started again when SIGKILL ends it, for `runtime.testing.faults`."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

from runtime.nats.end_with_parent import end_with_parent
from runtime.testing.armed import REACHED, READY

_POLL: Final = 0.01
"""Seconds between two looks at the log."""
_START_TIMEOUT: Final = 30.0
"""Seconds that a process may take to start."""
_TAIL: Final = 2_000
"""Characters of the log that an error has."""
_FOREIGN: Final = ("OTEL_", "NATS_", "ACTORLOOM_")
"""The beginnings of variables that a process does not get: its settings are those of the test."""


class Keeper:
    """Keeps one process running.

    Args:
        arguments: The arguments of `runtime.testing.armed`.
        log: The file of its output, over all of its lives.
        fault: The fault of its first life; empty for none.
        pause: Seconds for which the process stays stopped, if it stops itself.
    """

    def __init__(self, arguments: list[str], log: Path, fault: str = "", pause: float = 0.0) -> None:
        self._arguments = arguments
        self._log = log
        self._fault = fault
        self._pause = pause
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._recovered = asyncio.Event()
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Ends with the reason if the process ends otherwise than by SIGKILL."""

    def start(self) -> None:
        """Start the process."""
        self._tasks.append(asyncio.create_task(self._keep()))
        if self._fault.startswith("pause"):
            self._tasks.append(asyncio.create_task(self._continue()))

    @property
    def happened(self) -> bool:
        """Whether the fault has happened."""
        return REACHED in self._text()

    async def ready(self) -> None:
        """Return when the process serves or stands by, or its fault has happened before."""
        async with asyncio.timeout(_START_TIMEOUT):
            while READY not in self._text() and not self.happened:
                await asyncio.sleep(_POLL)

    async def recovered(self) -> None:
        """Return when a process that has stopped itself runs again."""
        if self._fault.startswith("pause") and self.happened:
            await self._recovered.wait()

    def check(self) -> None:
        """Raise `RuntimeError` if the process cannot run. The text has the end of its log."""
        if self.failed.done():
            raise RuntimeError(f"a process of the actors {self.failed.result()}:\n{self._text()[-_TAIL:]}")

    async def end(self) -> None:
        """Kill the process, and wait for its end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self.failed.cancel()

    def _text(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    async def _keep(self) -> None:
        fault = ["--fault", self._fault] if self._fault else []
        while True:
            command = end_with_parent(
                [sys.executable, "-m", "runtime.testing.armed", *self._arguments, *fault], signal.SIGKILL
            )
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=_environment()
                )
            code = await self._process.wait()
            if code != -signal.SIGKILL:
                self.failed.set_result(f"ended with {code}")
                return
            fault = []

    async def _continue(self) -> None:
        while not self.happened:
            await asyncio.sleep(_POLL)
        await asyncio.sleep(self._pause)
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._recovered.set()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    path = os.pathsep.join(each or os.getcwd() for each in sys.path)
    return {**kept, "PYTHONPATH": path, "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}
