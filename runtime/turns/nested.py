"""Nested requests: the queries and commands that the handlers of turns send.

A nested command takes effect at once, and nothing takes it back. Therefore it leaves only while the state on which its
handler runs is stored and its key is owned here. A key does not wait for its commit (ADR 011): a handler may run on a state
that a commit under way will store. Its commands wait for that commit. If the commit fails, the handler ends by
`Withdrawn`, and its message runs again on the state that is stored. A query changes nothing, and leaves at once.

The wait needs no worker and no lane: the answer of JetStream ends the commit, or a task that waits for JetStream only.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from runtime.actor.call import Call, Requests, TurnCall
from runtime.actor.message import Message
from runtime.clocks import YEAR, elapsed
from runtime.errors import DeadlineExceeded, DeclarationError, InvalidValue, RequestError


class Withdrawn(BaseException):
    """Ends a handler whose state was not stored, or whose key has another owner. Its message runs again, here or there.

    A handler may catch it. Each further command of the handler then raises it, too, and the result of the handler is dropped.
    """


class NestedRequests:
    """The requests of the handlers of one actor type.

    Args:
        requests: Sends them.
        owns: Returns True while this process owns the keys.
        timeout: Seconds that a request may take by default.
    """

    def __init__(self, requests: Requests, owns: Callable[[], bool], timeout: float) -> None:
        self._requests = requests
        self._owns = owns
        self._timeout = timeout

    def request(self, message: Message, *, command_id: str | None, timeout: float | None, call: Call) -> Awaitable[Any]:
        """Send a message, a command not before the state of its handler is stored. See `Requests.request`."""
        if command_id is None or not isinstance(call, TurnCall):
            return self._requests.request(message, command_id=command_id, timeout=timeout, call=call)
        return self._command(message, command_id, timeout, call)

    async def _command(self, message: Message, command_id: str, timeout: float | None, call: TurnCall) -> Any:
        if call.basis is not None:
            timeout = await self.wait_stored(call, self._timeout if timeout is None else timeout)
        if not self._owns():
            await _withdraw()
        call.writable("command").departed += 1
        try:
            return await self._requests.request(message, command_id=command_id, timeout=timeout, call=call)
        except (RequestError, InvalidValue) as error:
            if error.executed is False:
                call.departed -= 1
            raise
        except DeclarationError:
            call.departed -= 1
            raise

    async def wait_stored(self, call: TurnCall, timeout: float) -> float:
        """Wait until the state on which a handler runs is stored.

        Args:
            call: The call of the handler.
            timeout: Seconds that its command may take.

        Returns:
            The rest of `timeout`.

        Raises:
            Withdrawn: The state was not stored.
            DeadlineExceeded: The deadline of the command has passed.
        """
        basis, started = call.basis, time.monotonic()
        assert basis is not None
        limit = min(timeout, call.deadline - elapsed()) if call.deadline else timeout
        try:
            async with asyncio.timeout(limit if limit <= YEAR else None):
                stored = await basis.wait_stored()
        except TimeoutError:
            scope = call.scope
            text = (
                f"{scope.actor} {scope.source}: the command was not sent: the state of the key was not stored in time"
            )
            raise DeadlineExceeded(text, executed=False) from None
        if not stored:
            await _withdraw()
        return timeout - (time.monotonic() - started)


async def _withdraw() -> None:
    """Raise `Withdrawn`, after other tasks have run: a handler that catches it and tries again must not hold the event loop."""
    await asyncio.sleep(0)
    raise Withdrawn
