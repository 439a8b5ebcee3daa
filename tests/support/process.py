"""Runs `python -m runtime …` as real processes: until a line appears, until they end, or as long as a block."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0


class Ended(NamedTuple):
    """What a process said, and its exit code."""

    code: int
    out: str
    err: str


class Process:
    """A running command; what it writes to stdout and stderr is gathered in `text`."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.pid = child.pid
        self.text = ""
        self._child = child
        self._more = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())

    async def until(self, wanted: str, count: int = 1, timeout: float = PATIENCE) -> str:
        """Return the line that has `wanted` for the `count`-th time; fails where the process ends before."""
        async with asyncio.timeout(timeout):
            while True:
                found = [line for line in self.text.splitlines() if wanted in line]
                if len(found) >= count:
                    return found[count - 1]
                if self._reading.done():
                    raise AssertionError(f"ended without {wanted!r}:\n{self.text}")
                self._more.clear()
                await self._more.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        os.kill(self.pid, number)

    async def wait(self, timeout: float = PATIENCE) -> int:
        """Return the exit code (minus the number of a signal) when it has ended, all its output read."""
        async with asyncio.timeout(timeout):
            await self._reading
            return await self._child.wait()

    async def stop(self) -> int:
        """SIGTERM, and `wait`."""
        self.signal(signal.SIGTERM)
        return await self.wait()

    async def end(self) -> None:
        """Kill it where it still runs."""
        if self._child.returncode is None:
            self._child.kill()
        await self.wait()

    async def _read(self) -> None:
        assert self._child.stdout is not None
        while data := await self._child.stdout.read(65536):
            self.text += data.decode(errors="replace")
            self._more.set()
        self._more.set()


@asynccontextmanager
async def started(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, ready: str = "ready:"
) -> AsyncIterator[Process]:
    """Run a command as long as the block, from the moment that it has written `ready`."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "runtime", *arguments, cwd=cwd, env=environment(env), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    process = Process(child)
    try:
        await process.until(ready)
        yield process
    finally:
        await process.end()


async def ended(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, stdin: str = "", timeout: float = PATIENCE
) -> Ended:
    """Run a command to its end, and return what it said."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "runtime", *arguments, cwd=cwd, env=environment(env), stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout):
            out, err = await child.communicate(stdin.encode())
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode is not None
    return Ended(child.returncode, out.decode(), err.decode())


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, which the tests have cleaned, with the project importable from anywhere."""
    paths = (ROOT, ROOT / "deploy" / "editable")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), **(more or {})}
