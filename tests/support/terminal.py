"""A command in a real pseudo-terminal: its output, and keys that are typed."""

import asyncio
import os
import pty
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.process import PATIENCE, ROOT, environment


class Terminal:
    """A running command and its terminal. `text` is all that it has printed."""

    def __init__(self, child: asyncio.subprocess.Process, descriptor: int) -> None:
        self.text = ""
        self._child = child
        self._descriptor = descriptor
        self._new_output = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    @classmethod
    @asynccontextmanager
    async def run(cls, *arguments: str, rows: int = 40, columns: int = 160) -> AsyncIterator["Terminal"]:
        """Run ``actorloom`` with `arguments` in a terminal of this size for the duration of the block."""
        own, other = pty.openpty()
        termios.tcsetwinsize(own, (rows, columns))
        env = environment({"TERM": "xterm"})
        for size in ("COLUMNS", "LINES"):
            env.pop(size, None)  # They would take precedence over the size of the terminal.
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", _BEGIN, *arguments, cwd=ROOT, env=env,
            stdin=other, stdout=other, stderr=other, start_new_session=True,
        )  # fmt: skip
        terminal = cls(child, own)
        try:
            yield terminal
        finally:
            asyncio.get_running_loop().remove_reader(own)
            if child.returncode is None:
                child.kill()
            await child.wait()
            os.close(other)
            os.close(own)

    @property
    def modes(self) -> list[Any]:
        """The modes of the terminal, as of `termios.tcgetattr`."""
        return termios.tcgetattr(self._descriptor)

    def type(self, keys: str) -> None:
        """Type keys; ``\\x03`` is Ctrl-C."""
        os.write(self._descriptor, keys.encode())

    async def until(self, wanted: str, count: int = 1) -> None:
        """Return once `wanted` has been printed `count` times. Raises `AssertionError` with the text if it is not."""
        try:
            async with asyncio.timeout(PATIENCE):
                while self.text.count(wanted) < count:
                    self._new_output.clear()
                    await self._new_output.wait()
        except TimeoutError:
            raise AssertionError(f"{wanted!r} was not printed:\n{self.text}") from None

    async def until_prompt(self) -> None:
        """Return once the last text is a prompt. Keys that are typed earlier may get lost between two modes of the terminal."""
        async with asyncio.timeout(PATIENCE):
            while not self.text.endswith(">>> "):
                self._new_output.clear()
                await self._new_output.wait()

    async def wait(self) -> int:
        """Wait until the command has ended; return its exit code."""
        async with asyncio.timeout(PATIENCE):
            return await self._child.wait()

    def _read(self) -> None:
        try:
            self.text += os.read(self._descriptor, 65536).decode(errors="replace")
        except OSError:  # the terminal is closed
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._new_output.set()


_BEGIN = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from runtime.__main__ import main
main()
"""
"""Makes the terminal that of the command, so that Ctrl-C reaches it, and runs the command."""
