"""A subscription to one subject, and the ways to end it."""

import logging
from collections.abc import Awaitable, Callable

from runtime.errors import PublishError
from runtime.nats.errors import PermissionDenied

logger = logging.getLogger("actorloom.nats")


class Subscription:
    """A subscription to one subject, which a reconnect restores. `Connection.subscribe` creates it.

    `error` is set while the server refuses the subscription.
    """

    def __init__(
        self,
        subject: str,
        queue: str,
        unsubscribe: Callable[[bool], None],
        flush: Callable[[float], Awaitable[None]],
        subscribe: Callable[[], Awaitable[Callable[[bool], None]]],
    ) -> None:
        self.subject = subject
        self.queue = queue
        self.error: PermissionDenied | None = None
        self._unsubscribe = unsubscribe
        self._flush = flush
        self._subscribe = subscribe
        self._ended = False
        self.on_end: Callable[[Subscription], None] | None = None

    def unsubscribe(self) -> None:
        """End the subscription: no message is delivered after this call. Further calls do nothing."""
        if not self._ended:
            self._ended = True
            self._unsubscribe(False)
            if self.on_end is not None:
                self.on_end(self)

    async def renew(self) -> None:
        """Subscribe again after a refusal. The server sets `error` again if it still refuses."""
        if not self._ended:
            self._unsubscribe(False)
            self.error = None
            self._unsubscribe = await self._subscribe()
            if self._ended:  # It was ended meanwhile.
                self._unsubscribe(False)

    async def drain(self, timeout: float = 2.0) -> None:
        """End the subscription without loss: messages that the server has routed here are delivered first.

        The subscription ends after `timeout` seconds in any case, also if the server does not respond.
        """
        if self._ended:
            return
        self._unsubscribe(True)
        try:
            await self._flush(timeout)
        except (PublishError, TimeoutError) as error:
            logger.debug("subscription %s ended without confirmation by the server: %s", self.subject, error)
        finally:
            self.unsubscribe()
