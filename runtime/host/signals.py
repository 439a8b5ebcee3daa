"""Signals of a process: the first SIGTERM or SIGINT drains it, the second ends it at once. A forked child has defaults.

Code of an application may block the event loop, so nothing here needs the loop to see a second signal. Python calls a signal
handler in the main thread, between two bytecodes or in a system call that it repeats. That is enough for a loop that computes
or sleeps. A library in C may not return to Python for long. Therefore a thread reads the numbers of the signals too, from a
pipe that Python writes to as soon as a signal arrives. Only C code that does not release the interpreter lock delays both.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

logger = logging.getLogger("actorloom.host")

_NUMBERS: Final = (signal.SIGTERM, signal.SIGINT)
_BLOCKED: Final = 5.0
"""Seconds after the first signal until a blocked event loop is logged, with the code that blocks it."""


@contextmanager
def drain_on_signals(
    stop: Callable[[signal.Signals], object], before_exit: Callable[[], object] = lambda: None
) -> Generator[None]:
    """Handle SIGTERM and SIGINT inside a `with` block, in the running event loop of the main thread.

    A drain takes as long as its slowest handler. A second signal therefore ends the process without cleanup, with exit
    code 128 plus the number of the signal, as a shell reports it.

    Args:
        stop: Starts the drain. The event loop calls it after the first signal, and it must not block.
        before_exit: Called before a second signal ends the process, for example to kill a child process. It may run in
            another thread.
    """
    loop = asyncio.get_running_loop()
    answered = threading.Event()
    draining = False

    def drain(number: signal.Signals) -> None:
        answered.set()
        stop(number)

    def end(number: int) -> None:
        before_exit()
        os._exit(128 + number)

    def received(number: int, frame: FrameType | None) -> None:
        nonlocal draining
        if draining:
            end(number)
        draining = True
        loop.call_soon_threadsafe(drain, signal.Signals(number))

    watcher = _Watcher(end, answered)
    former = {number: signal.signal(number, received) for number in _NUMBERS}
    _handled.update(_NUMBERS)
    try:
        yield
    finally:
        _handled.difference_update(_NUMBERS)
        for number, handler in former.items():
            signal.signal(number, handler)
        watcher.close()


class _Watcher:
    """A thread that reads the numbers of arriving signals, and passes them on to the former reader: the event loop.

    Args:
        end: Called with the second SIGTERM or SIGINT.
        answered: Set as soon as the event loop has reacted to the first one.
    """

    def __init__(self, end: Callable[[int], None], answered: threading.Event) -> None:
        self._end = end
        self._answered = answered
        self._main = threading.get_ident()
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._former = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._run, name="actorloom signals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        current = signal.set_wakeup_fd(self._former, warn_on_full_buffer=self._former < 0)
        if current not in (self._writing, self._former):
            signal.set_wakeup_fd(current)  # Another part of the process has taken over.
        self._answered.set()
        os.write(self._writing, b"\0")
        self._thread.join()
        os.close(self._reading)
        os.close(self._writing)

    def _run(self) -> None:
        count = 0
        while True:
            numbers = os.read(self._reading, 64)
            if self._former >= 0:
                with contextlib.suppress(OSError):  # It is full, or closed.
                    os.write(self._former, numbers)
            for number in numbers:
                if not number:
                    return
                if number in _NUMBERS:
                    count += 1
                    if count > 1:
                        self._end(number)
                    self._report_later(signal.Signals(number))

    def _report_later(self, number: signal.Signals) -> None:
        """Log where the main thread is if the loop does not react. Another thread does so, since logging may block."""

        def report() -> None:
            if self._answered.wait(_BLOCKED):
                return
            frame = sys._current_frames().get(self._main)
            stack = "".join(traceback.format_stack(frame)).rstrip("\n")
            logger.error(
                "%s: the event loop is blocked, and has not reacted for %g s (a second signal ends the process). It runs\n%s",
                number.name, _BLOCKED, stack,
            )  # fmt: skip

        threading.Thread(target=report, name="actorloom signals report", daemon=True).start()


_handled: set[signal.Signals] = set()
"""The signals that this process handles now."""
_before_fork = threading.local()
"""`mask`: the blocked signals of the thread that forks."""


def _block() -> None:
    # A signal for the child that comes before `_reset_in_child` waits.
    _before_fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _handled)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _before_fork.mask)


def _reset_in_child() -> None:
    """Give a forked child the default handlers.

    asyncio's handler writes the signal to a socket that the child shares with this process: a SIGTERM for the child
    would not end it, and would drain this process.
    """
    if _handled:
        signal.set_wakeup_fd(-1)
        for number in _handled:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    _unblock()


os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_reset_in_child)
