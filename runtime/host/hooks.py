"""The methods `on_start` and `on_stop` of an actor, and what happens if one of them fails or does not end.

Both run in the task of the host. A task of their own would be wrong, since `on_start` may enter a task group that `on_stop`
leaves.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from runtime.actor.base import Actor
from runtime.actor.raised_at import raised_at
from runtime.errors import ActorError
from runtime.faults import error_text, log_fault
from runtime.turns.failures import failure_of

logger = logging.getLogger("actorloom.host")

_STOP_TIMEOUT = 10.0
"""Seconds that `on_stop` may take."""


class StartFailed(ActorError):
    """The `on_start` of an actor raised an error. The text has the actor, the type of the error, and its line."""


class Hooks:
    """Calls the hooks of one actor.

    Args:
        actor: The actor.
        exit: Called with an exception that asks for the end of the process.
    """

    def __init__(self, actor: Actor[Any], exit: Callable[[BaseException], None]) -> None:
        self._actor = actor
        self._exit = exit
        self._starting: asyncio.Task[Any] | None = None
        """The task that runs `on_start`; None at any other time."""
        self._cancelled = False
        self.stop_failed = False
        """Whether `on_stop` has raised, or was cut."""

    async def start(self) -> bool:
        """Call `on_start`. Return False if it asks for the end of the process, or `cancel_start` has cancelled it.

        Raises:
            StartFailed: It raised an error.
        """
        self._starting = task = asyncio.current_task()
        try:
            await self._actor.on_start()
        except BaseException as error:
            self._starting = None
            if (
                self._cancelled
                and isinstance(error, asyncio.CancelledError)
                and task is not None
                and not task.uncancel()
            ):
                return False
            if failure_of(error, self._exit) is None:
                raise
            if isinstance(error, SystemExit | KeyboardInterrupt):
                return False
            kind, text = type(error).__name__, error_text(error)
            raise StartFailed(f"{self._actor.name}: on_start failed: {kind}: {text} ({raised_at(error)})") from error
        finally:
            self._starting = None
        return True

    def cancel_start(self) -> None:
        """Cancel `on_start`, if it runs. Further calls do nothing."""
        if self._starting is not None and not self._cancelled:
            self._cancelled = True
            self._starting.cancel()

    async def stop(self) -> None:
        """Call `on_stop`. Its failure is logged, so that the other actors of the process drain nevertheless."""
        name, timeout = self._actor.name, asyncio.timeout(_STOP_TIMEOUT)
        try:
            async with timeout:
                await self._actor.on_stop()
        except BaseException as error:
            if failure_of(error, self._exit) is None:
                raise
            self.stop_failed = not isinstance(error, SystemExit | KeyboardInterrupt)
            if timeout.expired():
                logger.error("%s: on_stop was cut at its limit of %g s", name, _STOP_TIMEOUT)
            else:
                log_fault(logger, "%s: on_stop failed", name, error=error)
