"""Starts programs in children of a process that has imported the runtime, see `tests.support.preloaded`."""

import asyncio
import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds for the start of the process that forks."""


class Forked:
    """A process that was started by `start`, with the attributes of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int, code: "asyncio.Task[int]") -> None:
        self.pid = pid
        self._code = code

    @property
    def returncode(self) -> int | None:
        """The exit code (negative: the signal); None while the process runs."""
        return self._code.result() if self._code.done() else None

    async def wait(self) -> int:
        """Return the exit code once the process has ended."""
        return await asyncio.shield(self._code)

    def send_signal(self, number: int) -> None:
        """Send a signal. Nothing happens if the process has ended."""
        if not self._code.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


async def start(
    *arguments: str, cwd: Path, env: Mapping[str, str], stdin: int | None = None, stdout: int, stderr: int
) -> Forked:
    """Start a program.

    Args:
        arguments: Those of ``python``: ``-P`` or nothing, then ``-m``, the module, and its arguments.
        cwd: The working directory.
        env: All variables of the environment. Of those of Python itself, PYTHONPATH and PYTHONUNBUFFERED are regarded.
        stdin: An open file; None for no input. The caller closes the files.
        stdout: An open file.
        stderr: An open file.
    """
    path = await asyncio.to_thread(listening)
    opened = socket.socket(socket.AF_UNIX)
    opened.connect(str(path))
    given = json.dumps([arguments, str(cwd), dict(env)]).encode()
    empty = os.open(os.devnull, os.O_RDONLY)
    try:
        socket.send_fds(opened, [len(given).to_bytes(4, "big")], [empty if stdin is None else stdin, stdout, stderr])
        opened.sendall(given)
    finally:
        os.close(empty)
    opened.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=opened)
    pid = int.from_bytes(await reader.readexactly(4), "big")
    return Forked(pid, asyncio.ensure_future(_code(reader, writer)))


async def _code(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    try:
        return int.from_bytes(await reader.readexactly(4), "big", signed=True)
    finally:
        writer.close()


async def piped() -> tuple[int, asyncio.StreamReader]:
    """Return an open file to write to, which the caller closes, and a stream with all that is written to it."""
    read, write = os.pipe()
    stream = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(read, "rb")
    )
    return write, stream


@cache
def listening() -> Path:
    """Start the process that forks, unless it runs; return the path of its socket. It ends with this process."""
    directory = tempfile.TemporaryDirectory(prefix="preloaded-")
    path = Path(directory.name) / "socket"
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.preloaded", str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stdin is not None and server.stdout is not None

    def end() -> None:
        server.stdin.close()
        server.wait(PATIENCE)
        directory.cleanup()

    atexit.register(end)
    assert server.stdout.readline() == b"listening\n"
    return path
