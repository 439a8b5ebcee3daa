"""Signals of a process: the first SIGTERM or SIGINT drains it, the second ends it at once. A forked child has defaults."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def drain_on_signals(
    stop: Callable[[signal.Signals], object], before_exit: Callable[[], object] = lambda: None
) -> Generator[None]:
    """Handle SIGTERM and SIGINT inside a `with` block, in the running event loop.

    A drain takes as long as its slowest handler. A second signal therefore ends the process without cleanup, with exit
    code 128 plus the number of the signal, as a shell reports it.

    Args:
        stop: Starts the drain. It is called with the first signal, and must not block.
        before_exit: Called before a second signal ends the process, for example to kill a child process.
    """
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    draining = False

    def received(number: signal.Signals) -> None:
        nonlocal draining
        if draining:
            before_exit()
            os._exit(128 + number)
        draining = True
        stop(number)

    for number in numbers:
        loop.add_signal_handler(number, received, number)
    _handled.update(numbers)
    try:
        yield
    finally:
        _handled.difference_update(numbers)
        for number in numbers:
            loop.remove_signal_handler(number)


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
