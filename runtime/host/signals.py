"""Signals of a process: the first SIGTERM or SIGINT drains it, the second ends it at once."""

import asyncio
import os
import signal
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
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
