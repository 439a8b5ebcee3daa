"""Interest in one subject, and how it ends."""

import logging
from collections.abc import Awaitable, Callable

from runtime.errors import PublishError
from runtime.nats.errors import PermissionDenied

logger = logging.getLogger("actorloom.nats")


class Subscription:
    """Interest in one subject; it is restored on reconnect. `error` is set where the server refused it."""

    def __init__(
        self, subject: str, queue: str, unsubscribe: Callable[[bool], None], flush: Callable[[float], Awaitable[None]]
    ) -> None:
        self.subject = subject
        self.queue = queue
        self.error: PermissionDenied | None = None
        self._unsubscribe = unsubscribe
        self._flush = flush
        self._ended = False
        self.on_end: Callable[[Subscription], None] | None = None

    def unsubscribe(self) -> None:
        """End it: nothing is delivered from now on. Safe to call twice, or when closed."""
        if not self._ended:
            self._ended = True
            self._unsubscribe(False)
            if self.on_end is not None:
                self.on_end(self)

    async def drain(self, timeout: float = 2.0) -> None:
        """End it without loss: nothing more is routed here, and what was is delivered before this returns.

        Where the server does not say within `timeout` seconds that it has seen the end, it ends without.
        """
        if self._ended:
            return
        self._unsubscribe(True)
        try:
            await self._flush(timeout)
        except (PublishError, TimeoutError) as error:
            logger.debug("subscription %s ended without the server's word: %s", self.subject, error)
        finally:
            self.unsubscribe()
