"""Overruns: handlers that run for too long are logged, cut, and abandoned if they do not end.

A sweep looks at the workers of an actor four times a second while any of them is busy. A timer for each message would cost
more than the dispatch of a query. So a bound is precise to a quarter of a second.

1. **Slow.** A handler that runs for `Options.slow` is logged with its key and the messages that wait behind it.
2. **Cut.** At the nearest of its limit and the deadline of its caller, a handler gets `asyncio.CancelledError` where it awaits.
   It has `GRACE` seconds to clean up, and is then cancelled once more. Its turn fails in any case: a handler that catches the
   error and returns has failed too. The handler of a query may return a value instead, which is its reply. A turn that is past
   its handler is never cut: its commit decides. A request with neither limit nor deadline is cut after `CROWDED` seconds if all
   workers are taken and other messages wait for one: callers that have given up must not keep others from their answers.
3. **Abandoned.** A handler that still does not end is left alone. Its message fails now, its key is free, and another task takes
   the place of its worker. Calls of the handler raise from then on.

The worker of a cut handler ends with it, and so does that of a handler whose task the application cancels. A task that was
cancelled keeps a count of that (`Task.cancelling`), by which a later handler in it would be taken for cancelled.
"""

import asyncio
import logging
import math
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from runtime.actor.call import Call
from runtime.actor.handler import Handler
from runtime.clocks import elapsed
from runtime.options import Options
from runtime.telemetry import Counter

logger = logging.getLogger("actorloom.turns")

PERIOD: Final = 0.25
"""Seconds between two looks at the workers."""
GRACE: Final = 5.0
"""Seconds that a handler may use to clean up after it was cut."""
LAST_GRACE: Final = 1.0
"""Seconds that it may use after it was cancelled once more."""
CLOSE_GRACE: Final = 1.0
"""Seconds of `GRACE` for which the end of an ownership waits for its handlers, before the lease is given back without them."""

CROWDED: Final = 10.0
"""Seconds that a request without a limit and a deadline may run if all workers are taken and messages wait for one."""

_ROOMS: Final = Path(__file__).parents[1]


class Running(Protocol):
    """An item of a mailbox, as the sweep sees it."""

    deadline: float
    """The time, by `elapsed`, after which the caller has given up; 0 for none."""

    @property
    def running(self) -> Call | None:
        """The call of its handler while the handler runs; None before and after."""
        ...

    @property
    def awaited(self) -> bool:
        """Whether it is a request, for whose reply somebody may wait."""
        ...

    @property
    def handler(self) -> Handler:
        """Its handler."""
        ...

    @property
    def behind(self) -> int:
        """How many messages wait for its end."""
        ...

    def overrun(self, reason: str) -> Exception:
        """Return the failure of the message if its handler is cut."""
        ...

    def mark_cut(self, reason: str) -> None:
        """Add the cut to the span."""
        ...

    def release(self, error: Exception) -> None:
        """End the message with `error`, without its handler."""
        ...


class Worker:
    """A worker task, and what the sweep knows of the handler in it."""

    __slots__ = ("call", "checkpoints", "cut_at", "ends", "item", "reason", "repeated", "since", "task", "warn_after")

    def __init__(self) -> None:
        self.task: asyncio.Task[None]
        self.item: Any = None
        """The item that runs now; None while the worker is idle."""
        self.call: Call | None = None
        """The call that the last look has found."""
        self.checkpoints = 0
        """The checkpoints of the long job at the last look: its limit counts from the last one."""
        self.since = 0.0
        """Monotonic time at which the sweep saw this call first."""
        self.warn_after = math.inf
        """Seconds of running after which the next log line is due."""
        self.reason = ""
        """Why the handler was cut; empty if it was not."""
        self.cut_at = 0.0
        self.ends = False
        """Whether the task was cancelled, so that it ends after its item."""
        self.repeated = False
        """Whether it was cancelled once more."""

    @property
    def cut(self) -> bool:
        """Whether a handler in this task was cut."""
        return bool(self.reason)

    def describe(self) -> str:
        """Return the handler with its key, how long it has been running, and whether it was cut."""
        if self.item.running is None:
            return f"{name_of(self.item)}, which is not stored yet"
        took = time.monotonic() - self.since if self.item.running is self.call else 0.0
        text = f"{name_of(self.item)}, which has been running for {took:.0f} s"
        return f"{text} and was cut at {self.reason}" if self.reason else text


class Overruns:
    """Finds the overruns of one actor.

    Args:
        actor: Its name.
        options: Its options.
        slow: Counts the handlers that were logged as slow.
        cut: Counts the handlers that were cut.
        abandoned: Counts the handlers that were abandoned.
    """

    def __init__(self, actor: str, options: Options, slow: Counter, cut: Counter, abandoned: Counter) -> None:
        self._actor = actor
        self._options = options
        self._slow = slow
        self._cut = cut
        self._abandoned = abandoned
        self._crowded_logged = False

    def sweep(self, workers: Sequence[Worker], waiting: int = 0) -> list[Worker]:
        """Log and cut the handlers that are due.

        Args:
            workers: All workers.
            waiting: How many messages wait because no further worker may start; 0 if one may.

        Returns:
            The workers whose handler is abandoned: the caller replaces them.
        """
        now, real = time.monotonic(), elapsed()
        left: list[Worker] = []
        needed = waiting
        for worker in workers:
            item = worker.item
            call = None if item is None else item.running
            if call is not worker.call or (call is not None and call.checkpoints != worker.checkpoints):
                worker.call, worker.since = call, now
                worker.checkpoints = 0 if call is None else call.checkpoints
                worker.warn_after = self._options.slow or math.inf
            if item is None or call is None:
                continue
            took = now - worker.since
            if worker.cut:
                if self._after_cut(worker, now):
                    left.append(worker)
            elif reason := self._reason(item, took, real):
                self._cut_handler(worker, item, reason)
            elif needed and took >= CROWDED and self._may_give_way(item):
                needed -= 1
                reason = f"{CROWDED:g} s without a deadline, since all workers are taken"
                self._cut_handler(worker, item, reason)
            elif took >= worker.warn_after:
                self._warn(worker, item, took)
        self._warn_if_crowded(workers, waiting, now)
        return left

    def _reason(self, item: Running, took: float, real: float) -> str:
        """Return why the handler of `item` is cut now; empty if it is not."""
        own = item.handler.limit
        limit = self._options.limit if own is None else own
        if limit and took >= limit:
            return f"its limit of {limit:g} s"
        if item.deadline and real > item.deadline and limit != math.inf:
            return "the deadline of its caller"
        return ""

    def _may_give_way(self, item: Running) -> bool:
        """Return whether `item` is a request that nothing else bounds."""
        own = item.handler.limit
        return item.awaited and not item.deadline and not (self._options.limit if own is None else own)

    def cut(self, worker: Worker, failure: Exception, reason: str) -> None:
        """Cut the handler of a worker, whose item fails with `failure`."""
        item: Running = worker.item
        call = item.running
        if call is None:
            return
        if call is not worker.call:
            worker.call, worker.since, worker.warn_after = call, time.monotonic(), math.inf
        worker.reason, worker.cut_at, worker.ends = reason, time.monotonic(), True
        call.cut = failure
        item.mark_cut(reason)
        worker.task.cancel(f"cut at {reason}")

    def _cut_handler(self, worker: Worker, item: Running, reason: str) -> None:
        self.cut(worker, item.overrun(reason), reason)
        self._cut.value += 1
        logger.warning("%s: %s was cut at %s%s", self._actor, name_of(item), reason, _waiting(item))

    def _after_cut(self, worker: Worker, now: float) -> bool:
        """Cancel a handler once more that was cut `GRACE` seconds ago. Return True if it has not ended after that either."""
        after = now - worker.cut_at
        if not worker.repeated:
            if after >= GRACE:
                worker.repeated = True
                worker.task.cancel(f"cut at {worker.reason}")
            return False
        if after < GRACE + LAST_GRACE:
            return False
        self._abandoned.value += 1
        logger.error(
            "%s: %s was cut at %s and has not ended %.0f s later: it is abandoned. It waits at\n%s",
            self._actor, name_of(worker.item), worker.reason, after, stack_of(worker.task),
        )  # fmt: skip
        return True

    def _warn_if_crowded(self, workers: Sequence[Worker], waiting: int, now: float) -> None:
        """Log once that messages wait, and that each worker has been in the same handler for `CROWDED` seconds."""
        stuck = waiting and all(worker.call is not None and now - worker.since >= CROWDED for worker in workers)
        if stuck and not self._crowded_logged:
            logger.error(
                "%s: messages wait (%d), and each of the %d workers has been running one handler for %g s or longer: "
                "give these handlers a limit, or raise `concurrency`",
                self._actor, waiting, len(workers), CROWDED,
            )  # fmt: skip
        self._crowded_logged = bool(stuck)

    def _warn(self, worker: Worker, item: Running, took: float) -> None:
        if worker.warn_after == self._options.slow:
            self._slow.value += 1
        worker.warn_after *= 2
        logger.warning("%s: %s has been running for %.0f s%s", self._actor, name_of(item), took, _waiting(item))


def name_of(item: Any) -> str:
    """Return the operation of an item, with its key if it has one."""
    key = item.key
    return f"{item.handler.source} of key {key!r}" if key else str(item.handler.source)


def stack_of(task: asyncio.Task[Any]) -> str:
    """Return the stack of a suspended task, from the first frame outside of this package on.

    `Task.get_stack` returns the outermost frame only.
    """
    frames: list[Any] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            break
        frames.append(frame)
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    own = [number for number, frame in enumerate(frames) if _ROOMS not in Path(frame.f_code.co_filename).parents]
    summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames[own[0] if own else 0 :])
    return "".join(summary.format()).rstrip("\n")


def _waiting(item: Running) -> str:
    count = item.behind
    return f"; {count} {'message waits' if count == 1 else 'messages wait'} behind it" if count else ""
