"""Long jobs while they wait and run, and their cancellation.

A cancellation goes past the lane, in which it would wait behind the job. A job that waits does not run any more: its turn stores
that its id is handled. A job that runs gets `asyncio.CancelledError` where it awaits. If the handler lets it pass, nothing since
the last checkpoint is kept. If it catches the error and returns, its outcome is stored. Either way the id is handled then, and
the cancellation is answered. If the process ends before, the job goes on with the next owner, and the caller asks again.
"""

import asyncio
from collections.abc import Awaitable, Callable

from runtime.actor.call import TurnCall
from runtime.errors import ActorError, NotDelivered
from runtime.turns.work import Work


class JobCancelled(ActorError):
    """A job was cancelled. `call` is that of its handler."""

    def __init__(self, call: TurnCall) -> None:
        super().__init__("the job was cancelled")
        self.call = call


class Jobs:
    """The jobs of one ownership.

    Args:
        cut: Cancels the handler of a job that runs, with the failure of its run.
        hurry: Lets a job run at once that waits for another attempt.
    """

    def __init__(self, cut: Callable[[Work, Exception], None], hurry: Callable[[Work], None]) -> None:
        self._cut = cut
        self._hurry = hurry
        self._live: dict[tuple[str, str], Work] = {}
        """By the token of the key and each of its ids, the jobs that wait or run."""
        self._names: dict[Work, list[tuple[str, str]]] = {}
        self._cancelled: dict[tuple[str, str], asyncio.Future[bool]] = {}
        """The cancellations that are not answered."""
        self._stopped: set[Work] = set()
        """The jobs that a cancellation has ended, and whose end is not stored yet."""
        self._stopping = False

    def add(self, work: Work, token: str, ids: set[str]) -> None:
        """Take note of a job that waits in its lane. Its ids are that of its message, and the one that its caller knows."""
        self._names[work] = names = [(token, each) for each in ids]
        for name in names:
            self._live[name] = work

    def ended(self, work: Work, *, given_back: bool = False) -> None:
        """Take note that a job has ended, or is given back to the server."""
        stopped = work in self._stopped
        self._stopped.discard(work)
        for name in self._names.pop(work, ()):
            self._live.pop(name, None)
            if given_back:
                self._give_up(name)
            elif (future := self._cancelled.pop(name, None)) is not None and not future.done():
                future.set_result(stopped)

    def stop(self) -> None:
        """Answer the cancellations of jobs that are stored and not delivered: none is delivered any more, and nothing waits for it."""
        self._stopping = True
        for name in self._cancelled.keys() - self._live.keys():
            self._give_up(name)

    def is_cancelled(self, work: Work) -> bool:
        """Return whether a job is not to run. Its end is that of a cancellation then."""
        if not self._cancelled or self._cancelled.keys().isdisjoint(self._names.get(work, ())):
            return False
        self._stopped.add(work)
        return True

    async def cancel(self, token: str, job_id: str, waits: Callable[[], Awaitable[bool]]) -> bool:
        """End a job, and return whether this has ended it; False if it had ended before, or is not known.

        Args:
            token: The key of the job as a subject token.
            job_id: Its id.
            waits: Returns whether the job is stored, and has not been delivered.

        Raises:
            NotDelivered: The process stops.
        """
        name = (token, job_id)
        future = self._cancelled.get(name)
        if future is None:
            future = self._cancelled[name] = asyncio.get_running_loop().create_future()
        if name not in self._live:
            known = False
            try:
                known = await waits()
            finally:
                if not known and name not in self._live and self._cancelled.get(name) is future:
                    del self._cancelled[name]
                    if not future.done():
                        future.set_result(False)
        if (work := self._live.get(name)) is not None:
            self._stop(work)
        elif self._stopping:
            self._give_up(name)
        return await asyncio.shield(future)

    def _give_up(self, name: tuple[str, str]) -> None:
        """Answer a cancellation that this process does not finish."""
        future = self._cancelled.pop(name, None)
        if future is not None and not future.done():
            future.set_exception(NotDelivered("the service is stopping"))
            future.exception()

    def _stop(self, work: Work) -> None:
        call = work.running
        if call is None:
            self._hurry(work)
        elif call.cut is None and isinstance(call, TurnCall):
            self._stopped.add(work)
            self._cut(work, JobCancelled(call))
