"""The methods `on_start` and `on_stop` of an actor, and what happens if one of them fails or does not end.

Both run in the task of the host. A task of their own would be wrong, since `on_start` may enter a task group that `on_stop`
leaves. So a hook that ignores its cancellation keeps that task for ever, and the runner ends without it: see `Hooks.left`. No
lease is held while a hook runs.
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
from runtime.turns.overrun import GRACE, stack_of

logger = logging.getLogger("actorloom.host")

_STOP_TIMEOUT = 10.0
"""Seconds that `on_stop` may take."""
_SLOW = 10.0
"""Seconds after which an `on_start` that still runs is logged."""


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
        self.left: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """The name of a hook that has not ended `GRACE` seconds after it was cancelled; not done if there is none."""
        self._watching: asyncio.TimerHandle | None = None

    async def start(self) -> bool:
        """Call `on_start`. Return False if it asks for the end of the process, or `cancel_start` has cancelled it.

        Raises:
            StartFailed: It raised an error.
        """
        self._starting = task = asyncio.current_task()
        assert task is not None
        slow = asyncio.get_running_loop().call_later(_SLOW, self._warn, task)
        try:
            await self._actor.on_start()
        except BaseException as error:
            self._starting = None
            if self._cancelled and isinstance(error, asyncio.CancelledError) and not task.uncancel():
                return False
            if failure_of(error, self._exit) is None:
                raise
            if isinstance(error, SystemExit | KeyboardInterrupt):
                return False
            kind, text = type(error).__name__, error_text(error)
            raise StartFailed(f"{self._actor.name}: on_start failed: {kind}: {text} ({raised_at(error)})") from error
        finally:
            self._starting = None
            slow.cancel()
            self._stop_watch()
        if self._cancelled:
            task.uncancel()  # It has caught the cancellation, and returned nevertheless.
        return True

    def cancel_start(self) -> None:
        """Cancel `on_start`, if it runs. Further calls do nothing."""
        if self._starting is not None and not self._cancelled:
            self._cancelled = True
            self._starting.cancel()
            self._watch(GRACE, self._starting, "on_start")

    async def stop(self) -> None:
        """Call `on_stop`. Its failure is logged, so that the other actors of the process drain nevertheless."""
        name, timeout = self._actor.name, asyncio.timeout(_STOP_TIMEOUT)
        task = asyncio.current_task()
        assert task is not None
        self._watch(_STOP_TIMEOUT + GRACE, task, "on_stop")
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
        finally:
            self._stop_watch()

    def _watch(self, seconds: float, task: asyncio.Task[Any], hook: str) -> None:
        self._watching = asyncio.get_running_loop().call_later(seconds, self._leave, task, hook)

    def _stop_watch(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    def _leave(self, task: asyncio.Task[Any], hook: str) -> None:
        """Leave a hook alone that was cancelled `GRACE` seconds ago."""
        logger.error(
            "%s: %s was cancelled and has not ended %g s later: it is left alone. It waits at\n%s",
            self._actor.name, hook, GRACE, stack_of(task),
        )  # fmt: skip
        if not self.left.done():
            self.left.set_result(hook)

    def _warn(self, task: asyncio.Task[Any]) -> None:
        logger.warning(
            "%s: on_start has been running for %g s. It waits at\n%s", self._actor.name, _SLOW, stack_of(task)
        )
