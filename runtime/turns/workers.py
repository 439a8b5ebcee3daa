"""Mailboxes: where messages wait, and the worker tasks that drain them.

One wake-up serves a whole burst (a queue hop for each message costs more than its dispatch). A worker is a real task, so
that timeouts and context variables in a handler are its own; when a handler suspends while others wait, the next worker
is woken, up to the bound.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, Protocol

_SPARE = 32
"""Parked workers that are kept for the next burst; more end."""


class Runnable(Protocol):
    """What waits in a mailbox."""

    def run(self) -> Coroutine[Any, Any, None]:
        """Handle it; whatever the handler does is answered inside, so this must not raise."""
        ...

    def abandon(self) -> None:
        """It will not be run."""
        ...


class Workers:
    """Runs ``item.run()`` for each item put, in order of arrival, at most `bound` at once.

    An item that raises all the same ends its worker, and `on_crash` is told.
    """

    __slots__ = (
        "_bound",
        "_closed",
        "_context",
        "_idle_waiters",
        "_loop",
        "_on_crash",
        "_parked",
        "_tasks",
        "draining",
        "waiting",
    )

    def __init__(self, bound: int, on_crash: Callable[[BaseException], None]) -> None:
        self._bound = bound
        self._on_crash = on_crash
        self._loop = asyncio.get_running_loop()
        # Who puts an item may run in the context of a message of its own; a worker's begins without one.
        self._context = copy_context()
        self.waiting: deque[Runnable] = deque()
        """What has been put and does not run yet. Who adds to it himself wakes a worker where none is `draining`."""
        self._parked: list[asyncio.Future[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = False
        """Whether a worker has been woken that has not suspended yet."""
        self._closed = False
        self._idle_waiters: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self.waiting)

    def put(self, item: Runnable) -> None:
        """Add an item; the caller has checked the bound of what may wait. When closed it is abandoned at once."""
        self.waiting.append(item)
        if not self.draining:
            self.wake()

    async def wait_idle(self) -> None:
        """Return when nothing waits and nothing runs."""
        while self.busy:
            future = self._loop.create_future()
            self._idle_waiters.append(future)
            await future

    async def close(self) -> None:
        """Cancel what still runs, abandon what waits, and end all workers."""
        self._closed = True
        self.draining = False
        self._parked.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        self._abandon()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._settle()

    def _abandon(self) -> None:
        while self.waiting:
            self.waiting.popleft().abandon()

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self.waiting) or len(self._parked) < len(self._tasks)

    def _settle(self) -> None:
        if not self.busy:
            for waiting in self._idle_waiters:
                if not waiting.done():
                    waiting.set_result(None)
            self._idle_waiters.clear()

    def wake(self) -> None:
        """Have a worker take what waits."""
        if self._closed:
            self._abandon()
            return
        if self._parked:
            self._parked.pop().set_result(None)
        elif len(self._tasks) < self._bound:
            task = self._loop.create_task(self._work(), context=self._context.copy())
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        else:
            return
        self.draining = True

    def _release(self) -> None:
        # Runs when the woken worker has yielded: it has either drained the queue or suspended in a handler.
        self.draining = False
        if self.waiting:
            self.wake()

    async def _work(self) -> None:
        queue, loop = self.waiting, self._loop
        while True:
            loop.call_soon(self._release)
            while queue:
                await queue.popleft().run()
            if len(self._parked) >= _SPARE:
                return
            parked: asyncio.Future[None] = loop.create_future()
            self._parked.append(parked)
            if self._idle_waiters:
                self._settle()
            await parked

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._idle_waiters:
            self._settle()
        if self._closed:
            return
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self._on_crash(error)
        if self.waiting and not self.draining:
            self.wake()


def stray(error: asyncio.CancelledError) -> Exception | None:
    """Return the failure of a handler that let the cancelling of something else out; None where its worker is ended."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        return None
    failure = RuntimeError("the handler awaited something that was cancelled")
    failure.__cause__ = error
    return failure
