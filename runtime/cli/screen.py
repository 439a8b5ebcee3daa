"""A terminal whose whole screen is renewed in place, and which is as before at the end."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self

from runtime.cli.output import shown

_BEGIN = "\x1b[?1049h\x1b[?25l"
"""Shows another screen, and hides the cursor."""
_END = "\x1b[?25h\x1b[?1049l"


def is_terminal() -> bool:
    """Return whether stdin and stdout are a terminal that this process can control."""
    if find_spec("termios") is None:
        return False  # no Unix
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Screen:
    """The screen, for the duration of a `with` block. Keys are read without echo; ``q`` and SIGTERM ask for the end."""

    def __init__(self) -> None:
        self._quit = asyncio.Event()
        self._modes: list[Any] = []

    @property
    def width(self) -> int:
        """The number of columns."""
        return shutil.get_terminal_size().columns

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin, self._read)
        loop.add_signal_handler(signal.SIGTERM, self._quit.set)
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(sys.stdin)
        loop.remove_signal_handler(signal.SIGTERM)
        self._give_back()

    async def quits(self, seconds: float) -> bool:
        """Wait for some seconds, or until the end is asked for. Return whether it is."""
        try:
            async with asyncio.timeout(seconds):
                await self._quit.wait()
        except TimeoutError:
            return False
        return True

    def show(self, lines: Sequence[str]) -> None:
        """Replace the text on the screen. Lines that do not fit are left out."""
        height = shutil.get_terminal_size().lines
        # A line is erased before it is written: afterwards, the erasure would take the character in the last column.
        text = "\n".join(f"\x1b[K{shown(line)}" for line in lines[:height])
        self._write(f"\x1b[H{text}" + ("\n\x1b[J" if len(lines) < height else ""))

    def _take(self) -> None:
        import termios
        import tty

        self._modes = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTSTP, self._stop)
        self._write(_BEGIN)

    def _give_back(self) -> None:
        import termios

        asyncio.get_running_loop().remove_signal_handler(signal.SIGTSTP)
        try:
            self._write(_END)
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._modes)

    def _stop(self) -> None:
        """Let Ctrl-Z stop this process, with the terminal as before, and take the terminal again when it goes on."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGTSTP)
        self._take()

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def _read(self) -> None:
        keys = os.read(sys.stdin.fileno(), 1024)
        if not keys or b"q" in keys.lower() or b"\x03" in keys:
            self._quit.set()
