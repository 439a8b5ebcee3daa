"""A mailbox and the worker tasks that drain it.

One wake-up serves a whole burst: a hop through a queue for each message would cost more than its dispatch. A worker is a real
task, so that timeouts and context variables in a handler are its own. When a handler suspends while other messages wait,
the next worker is woken, up to the bound.
"""

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, Protocol

from runtime.actor.call import Call, in_handler
from runtime.turns.overrun import CLOSE_GRACE, GRACE, LAST_GRACE, PERIOD, Overruns, Worker, stack_of

logger = logging.getLogger("actorloom.turns")

_MAX_PARKED = 32
"""Idle workers that are kept for the next burst; others end."""
_LEFT: set[asyncio.Task[None]] = set()
"""Tasks that do not end, also after their workers are closed. The event loop refers to its tasks weakly."""


class Runnable(Protocol):
    """An item of a mailbox."""

    def run(self) -> Coroutine[Any, Any, None]:
        """Handle the item. Must not raise: a failure is answered inside."""
        ...

    def abandon(self) -> None:
        """Give the item back: it will not run."""
        ...


class Workers:
    """Runs ``item.run()`` for each item, in order of arrival, at most `bound` at once.

    An item that raises ends its worker, and `on_crash` is called with the error.
    """

    __slots__ = (
        "_bound",
        "_closed",
        "_context",
        "_draining",
        "_idle",
        "_left",
        "_loop",
        "_on_crash",
        "_overruns",
        "_parked",
        "_sweep",
        "_tasks",
        "_waiting",
    )

    def __init__(self, bound: int, on_crash: Callable[[BaseException], None], overruns: Overruns | None = None) -> None:
        self._bound = bound
        self._on_crash = on_crash
        self._overruns = overruns
        self._sweep: asyncio.TimerHandle | None = None
        """The next look for overruns; None while all workers are idle."""
        self._loop = asyncio.get_running_loop()
        # `put` may be called in the context of some message. Each worker begins with this one, which has none.
        self._context = copy_context()
        self._context.run(in_handler.set, True)
        self._waiting: deque[Runnable] = deque()
        self._parked: list[asyncio.Future[None]] = []
        self._tasks: dict[asyncio.Task[None], Worker] = {}
        self._left: dict[asyncio.Task[None], Worker] = {}
        """Tasks that do not end."""
        self._draining = False
        """True from the wake-up of a worker until it suspends for the first time: no second one is needed."""
        self._closed = False
        self._idle: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._waiting)

    def put(self, item: Runnable, limit: int = sys.maxsize) -> bool:
        """Add an item, unless too many wait. After `close` the item is abandoned at once.

        Args:
            item: The item.
            limit: The number of waiting items from which on no item is added.

        Returns:
            Whether the item was added.
        """
        if len(self._waiting) >= limit:
            return False
        self._waiting.append(item)
        if not self._draining:
            self._wake()
        return True

    @property
    def busy(self) -> bool:
        """True if an item waits or runs."""
        return bool(self._waiting) or len(self._parked) < len(self._tasks)

    async def wait_idle(self) -> None:
        """Return when no item waits or runs."""
        while self.busy:
            future = self._loop.create_future()
            self._idle.append(future)
            await future

    async def close(self) -> None:
        """Cancel the running items, abandon the waiting ones, and end all workers, within `CLOSE_GRACE` seconds.

        A handler that has not ended by then is left alone, and nothing that it does has an effect any more: see `end_left`.
        """
        self._closed = True
        self._draining = False
        self._parked.clear()
        for task in self._tasks:
            task.cancel()
        self._abandon_all()
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=CLOSE_GRACE)
        finally:
            if self._sweep is not None:
                self._sweep.cancel()
            for worker in list(self._tasks.values()):
                self._leave(worker)
                if worker.item is not None:
                    worker.item.abandon()
            self._notify_idle()

    async def end_left(self) -> None:
        """Give the handlers that were left alone the rest of their `GRACE` to clean up. Log those that do not end."""
        if self._left:
            await asyncio.wait(self._left, timeout=GRACE - CLOSE_GRACE)
        for task in self._left:
            task.cancel()
        if self._left:
            await asyncio.wait(self._left, timeout=LAST_GRACE)
        for task, worker in self._left.items():
            logger.error("%s does not end and is left alone. It waits at\n%s", worker.describe(), stack_of(task))

    def survives_cancellation(self) -> bool:
        """Return whether the current worker was cancelled by the application and not by `close`. It ends after its item."""
        task = asyncio.current_task()
        worker = None if task is None else self._tasks.get(task)
        if worker is not None:
            worker.ends = True
        return not self._closed

    def cut(self, item: Any, failure: Exception) -> None:
        """Cancel the handler of an item, which then fails with `failure`, unless it has ended or is cut already."""
        for worker in self._tasks.values():
            if worker.item is item and self._overruns is not None and not worker.cut:
                self._overruns.cut(worker, failure, "a cancellation")

    def unfinished(self) -> list[str]:
        """Return the description of each item that runs."""
        return [worker.describe() for worker in self._tasks.values() if worker.item is not None]

    def _wake(self) -> None:
        """Have a worker take the waiting items, unless all are in use."""
        if self._closed:
            self._abandon_all()
            return
        if self._parked:
            self._parked.pop().set_result(None)
        elif len(self._tasks) < self._bound:
            worker = Worker()
            worker.task = self._loop.create_task(self._work(worker), context=self._context.copy())
            self._tasks[worker.task] = worker
            worker.task.add_done_callback(self._ended)
        else:
            return
        self._draining = True
        if self._sweep is None and self._overruns is not None:
            self._sweep = self._loop.call_later(PERIOD, self._look)

    async def _work(self, worker: Worker) -> None:
        waiting, loop = self._waiting, self._loop
        while True:
            loop.call_soon(self._suspended)
            while waiting:
                item = worker.item = waiting.popleft()
                await item.run()
                if worker.ends or self._closed:
                    return  # This task was cancelled, which its handler may have caught: see `overrun`, `close`.
            worker.item = None
            if len(self._parked) >= _MAX_PARKED:
                return
            parked: asyncio.Future[None] = loop.create_future()
            self._parked.append(parked)
            if self._idle:
                self._notify_idle()
            try:
                await parked
            except asyncio.CancelledError:
                if self._closed:
                    raise
                # The application has cancelled the task of a handler that had ended before.
                if parked in self._parked:
                    self._parked.remove(parked)
                else:
                    self._draining = False  # `_wake` has chosen this worker.
                return

    def _suspended(self) -> None:
        """Runs once the woken worker has yielded: it has drained the queue, or a handler has suspended."""
        self._draining = False
        if self._waiting:
            self._wake()

    def _look(self) -> None:
        """Look for overruns, and again as long as any worker is busy."""
        self._sweep = None
        overruns = self._overruns
        if overruns is None or not self.busy:
            return
        crowded = len(self._waiting) if len(self._tasks) >= self._bound else 0
        for worker in overruns.sweep(list(self._tasks.values()), crowded):
            failure = worker.item.running.cut
            self._leave(worker)
            worker.item.release(failure)
        if self._idle:
            self._notify_idle()
        if self._waiting and not self._draining:
            self._wake()
        if self._sweep is None:
            self._sweep = self._loop.call_later(PERIOD, self._look)

    def _leave(self, worker: Worker) -> None:
        """Leave a task alone that does not end. Nothing that its handler does has an effect any more."""
        del self._tasks[worker.task]
        self._left[worker.task] = worker
        _LEFT.add(worker.task)
        call: Call | None = None if worker.item is None else worker.item.running
        if call is not None:
            call.ended = True

    def _ended(self, task: asyncio.Task[None]) -> None:
        _LEFT.discard(task)
        if self._left.pop(task, None) is not None:
            if not task.cancelled():
                task.exception()  # It is retrieved, so that asyncio does not log it.
            return
        self._tasks.pop(task)
        if self._idle:
            self._notify_idle()
        if self._closed:
            return
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self._on_crash(error)
        if self._waiting and not self._draining:
            self._wake()

    def _notify_idle(self) -> None:
        if not self.busy:
            for waiting in self._idle:
                if not waiting.done():
                    waiting.set_result(None)
            self._idle.clear()

    def _abandon_all(self) -> None:
        while self._waiting:
            self._waiting.popleft().abandon()
