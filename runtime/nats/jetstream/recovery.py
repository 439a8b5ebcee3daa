"""Recovery of a puller: attempts with growing pauses, and one report per reason of failure."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from runtime.backoff import Backoff
from runtime.errors import ActorError, PublishError

logger = logging.getLogger("actorloom.nats")

_BACKOFF: Final = Backoff(first=0.05, longest=2.0)
"""The pauses between attempts."""


class Recovery:
    """Repeats `attempt` until it succeeds.

    Args:
        name: Names the recovery in error texts and the name of its task.
        attempt: Tries once; raises `ActorError` or `TimeoutError` if it fails.
        on_recovered: Called after an attempt that succeeded.
        on_error: Called with the error of a failed attempt, or one that `report` was given. None logs a warning.
    """

    def __init__(
        self,
        name: str,
        attempt: Callable[[], Awaitable[None]],
        on_recovered: Callable[[], None],
        on_error: Callable[[ActorError], None] | None = None,
    ) -> None:
        self.name = name
        self.attempts = 0
        """Attempts since the last call of `succeeded`. The first one is made without a pause."""
        self.active = False
        """Whether attempts are being made."""
        self._attempt = attempt
        self._on_recovered = on_recovered
        self._on_error = on_error or _log
        self._reported = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the attempts, unless they are being made already."""
        if not self.active:
            self.active = True
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"actorloom {self.name}")
            self._task.add_done_callback(self._on_end)

    def stop(self) -> None:
        """Stop the attempts."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self.active = False

    def succeeded(self) -> None:
        """Record that the server has sent something since the recovery: the next failure is a new one."""
        self.attempts = 0
        self._reported = ""

    def report(self, error: ActorError) -> None:
        """Call `on_error`, unless the last report since the last success had the same text."""
        if str(error) != self._reported:
            self._reported = str(error)
            self._on_error(error)

    async def _run(self) -> None:
        while True:
            if self.attempts:
                await asyncio.sleep(_BACKOFF.delay(self.attempts))
            self.attempts += 1
            try:
                await self._attempt()
                break
            except TimeoutError as error:
                self.report(PublishError(f"{self.name}: {error}"))
            except ActorError as error:
                self.report(error)
        self.active = False
        self._on_recovered()

    def _on_end(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and task is self._task:
            self.report(ActorError(f"{self.name}: {error!r}"))
            self.active = False
            self.start()


def _log(error: ActorError) -> None:
    logger.warning("%s", error)
