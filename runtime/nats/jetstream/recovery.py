"""Beginning anew after a failure: until it succeeds, ever slower, each reason told once."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from runtime.errors import ActorError, PublishError

# Seconds before the next attempt after a failure: doubled each time, up to the longest.
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


class Recovery:
    """Repeats `attempt` until it succeeds, and then calls `begun`. `name` stands in errors and names the task."""

    def __init__(
        self,
        name: str,
        attempt: Callable[[], Awaitable[None]],
        begun: Callable[[], None],
        on_error: Callable[[ActorError], None],
    ) -> None:
        self.name = name
        self.failures = 0
        """Attempts since all was well."""
        self.active = False
        self._attempt = attempt
        self._begun = begun
        self._on_error = on_error
        self._reported = ""
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin to try, unless that is under way."""
        if not self.active:
            self.active = True
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"actorloom {self.name}")
            self._task.add_done_callback(self._ended)

    def end(self) -> None:
        """Try no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self.active = False

    def well(self) -> None:
        """Something was heard: the next failure is a new one."""
        self.failures = 0
        self._reported = ""

    def report(self, error: ActorError) -> None:
        """Tell an error. While down the same one comes with every attempt: once is enough, until all was well."""
        if str(error) != self._reported:
            self._reported = str(error)
            self._on_error(error)

    async def _run(self) -> None:
        while True:
            if self.failures:
                pause = min(_FIRST_PAUSE * 2 ** min(self.failures - 1, 10), _LONGEST_PAUSE)
                await asyncio.sleep(pause * (0.5 + random.random() / 2))
            self.failures += 1
            try:
                await self._attempt()
                break
            except TimeoutError as error:
                self.report(PublishError(f"{self.name}: {error}"))
            except ActorError as error:
                self.report(error)
        self.active = False
        self._begun()

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and task is self._task:
            self.report(ActorError(f"{self.name}: {error!r}"))
            self.active = False
            self.begin()
