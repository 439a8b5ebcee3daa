"""The event loop of `run`: it ends in order and in bounded time, whatever the code of the application does.

`asyncio.run` does neither. A `SystemExit` in a task leaves it at once, and at its end it waits without a bound for tasks that
ignore their cancellation and for threads that do not end.
"""

import asyncio
import logging
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from runtime.cli.failures import UNFINISHED
from runtime.errors import ConfigurationError
from runtime.turns.overrun import stack_of

logger = logging.getLogger("actorloom.cli")

_END: Final = 3.0
"""Seconds that tasks and threads of the application may take to end after the actors have drained."""
_THREADS: Final = "actorloom-thread"
"""The prefix of the names of the threads that `asyncio.to_thread` uses."""


def run_loop(main: Callable[[], Coroutine[Any, Any, None]], *, uvloop: bool) -> None:
    """Run `main` on the event loop of uvloop or of asyncio.

    Code of the application may raise `SystemExit` or `KeyboardInterrupt`. In a task of its own, asyncio lets it out of the
    event loop. The loop then goes on until the actors have drained, as after a signal, and only then the exception is raised.
    A task or a thread that does not end is logged, and the process ends without it.
    """
    loop = _uvloop()() if uvloop else asyncio.new_event_loop()
    executor = ThreadPoolExecutor(thread_name_prefix=_THREADS)
    loop.set_default_executor(executor)
    asyncio.set_event_loop(loop)
    try:
        _run_to_end(loop, loop.create_task(main()))
    finally:
        left = _end_tasks(loop)
        executor.shutdown(wait=False, cancel_futures=True)
        left += _end_threads()
        if left:
            logger.error("the process ends although these have not ended: %s", "\n".join(left))
            UNFINISHED.extend(left)
        else:
            loop.run_until_complete(loop.shutdown_asyncgens())
            asyncio.set_event_loop(None)
            loop.close()


def _run_to_end(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    raised: BaseException | None = None
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if raised is not None or task.done() or signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                raise
            raised = error
            logger.warning("a task raised %s: the process drains and ends", type(error).__name__)
            signal.raise_signal(signal.SIGTERM)
    if raised is not None:
        raise raised


def _end_tasks(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Cancel all tasks. Return those that have not ended in time."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_END))
    return [f"task {task.get_coro()!r}, which waits at\n{stack_of(task)}" for task in tasks if not task.done()]


def _end_threads() -> list[str]:
    """Wait for the threads of the pool. Return those that have not ended in time."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(_THREADS)]
    until = time.monotonic() + _END
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0.0))
    frames = sys._current_frames()
    return [
        f"thread {thread.name}, which runs\n{''.join(traceback.format_stack(frames.get(thread.ident or 0))).rstrip()}"
        for thread in threads
        if thread.is_alive()
    ]


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        from uvloop import new_event_loop
    except ImportError:
        raise ConfigurationError(
            "uvloop is not installed: run `pip install actorloom[uvloop]`, or remove the setting"
        ) from None
    return new_event_loop
