"""Runs ``actorloom …`` as a real process: to its end, or for the duration of a block. Or in this process, which is cheap.

Most processes are children of one that has imported the runtime, see `tests.support.preloaded`; tests of the start itself
ask for a fresh interpreter.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, chdir
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner

from runtime.cli import actorloom
from tests.support import forked
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds for which tests wait for a line or for the end of a process."""


class Completed(NamedTuple):
    """The exit code and the output of a process that has ended."""

    code: int
    out: str
    err: str


def run_here(*arguments: str, cwd: Path) -> Completed:
    """Run a command in this process, without the second that an interpreter takes.

    Most commands run an event loop of their own, so the caller must not run in one. Modules stay imported, and keep their
    first text.
    """
    with chdir(cwd):
        ran = CliRunner().invoke(actorloom, arguments, catch_exceptions=False)
    return Completed(ran.exit_code, ran.stdout, ran.stderr)


class Process:
    """A running command. `text` is its output so far, stdout and stderr together."""

    def __init__(self, child: asyncio.subprocess.Process | forked.Forked, output: asyncio.StreamReader | None) -> None:
        assert output is not None
        self.pid = child.pid
        self.text = ""
        self._child = child
        self._output = output
        self._new_output = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())

    async def until(self, wanted: str, count: int = 1, timeout: float = PATIENCE) -> str:
        """Return the `count`-th line that contains `wanted`, once there is one.

        Raises:
            AssertionError: The process ended first.
            TimeoutError: The line did not appear within `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            while True:
                found = [line for line in self.text.splitlines() if wanted in line]
                if len(found) >= count:
                    return found[count - 1]
                if self._reading.done():
                    raise AssertionError(f"the process ended without the line {wanted!r}:\n{self.text}")
                self._new_output.clear()
                await self._new_output.wait()

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._child.returncode is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process only, not to its group."""
        os.kill(self.pid, number)

    async def wait(self, timeout: float = PATIENCE) -> int:
        """Wait until the process has ended and all its output is read; return the exit code (negative: the signal)."""
        async with asyncio.timeout(timeout):
            await self._reading
            return await self._child.wait()

    async def stop(self) -> int:
        """Send SIGTERM, and `wait`."""
        self.signal(signal.SIGTERM)
        return await self.wait()

    async def end(self) -> None:
        """Kill the process if it still runs, and wait for its end."""
        if self._child.returncode is None:
            self._child.kill()
        await self.wait()

    async def _read(self) -> None:
        while data := await self._output.read(65536):
            self.text += data.decode(errors="replace")
            self._new_output.set()
        self._new_output.set()


async def start_command(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, fresh: bool = False
) -> Process:
    """Start a command. The caller ends it.

    Args:
        fresh: Start an interpreter.
    """
    line = ("-P", "-m", "runtime", *arguments)
    if fresh:
        child = await asyncio.create_subprocess_exec(
            sys.executable, *line, cwd=cwd, env=environment(env), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        return Process(child, child.stdout)
    written, output = await forked.piped()
    try:
        return Process(await forked.start(*line, cwd=cwd, env=environment(env), stdout=written, stderr=written), output)
    finally:
        os.close(written)


@asynccontextmanager
async def running_command(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, ready: str = "ready:", fresh: bool = False
) -> AsyncIterator[Process]:
    """Run a command for the duration of the block, which is entered once the output contains `ready`.

    Args:
        fresh: Start an interpreter.
    """
    process = await start_command(*arguments, cwd=cwd, env=env, fresh=fresh)
    try:
        await process.until(ready)
        yield process
    finally:
        await process.end()


async def run_command(
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    timeout: float = PATIENCE,
    fresh: bool = False,
) -> Completed:
    """Run a command to its end; return its exit code and output.

    Args:
        fresh: Start an interpreter.
    """
    line = ("-P", "-m", "runtime", *arguments)
    if fresh:
        return await run_python(*line, cwd=cwd, env=env, stdin=stdin, timeout=timeout)
    reads, writes = os.pipe()
    (out, out_text), (err, err_text) = await forked.piped(), await forked.piped()
    try:
        child = await forked.start(*line, cwd=cwd, env=environment(env), stdin=reads, stdout=out, stderr=err)
    finally:
        for each in (reads, out, err):
            os.close(each)
    try:
        async with asyncio.timeout(timeout):
            texts = await asyncio.gather(
                out_text.read(), err_text.read(), asyncio.to_thread(_write, writes, stdin.encode())
            )
            return Completed(await child.wait(), texts[0].decode(), texts[1].decode())
    finally:
        child.kill()
        await child.wait()


def _write(file: int, data: bytes) -> None:
    """Write data to a pipe whose reader may end first, and close it."""
    with contextlib.suppress(BrokenPipeError), os.fdopen(file, "wb") as stream:
        stream.write(data)


async def run_python(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, stdin: str = "", timeout: float = PATIENCE
) -> Completed:
    """Run Python to its end; return its exit code and output."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=cwd, env=environment(env), stdin=asyncio.subprocess.PIPE,
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
    return Completed(child.returncode, out.decode(), err.decode())


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a command: this process's, with the project importable from any directory.

    A fixture has removed the developer's own settings from it.
    """
    paths = (ROOT, ROOT / "deploy" / "editable")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), **(more or {})}


async def stop_process(pid: int) -> None:
    """Stop a process with SIGSTOP, and wait until all of its threads have stopped. They do not stop at once."""
    os.kill(pid, signal.SIGSTOP)
    threads = Path(f"/proc/{pid}/task")
    await until(lambda: all(_state(each) == "T" for each in threads.iterdir()))


def _state(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]
