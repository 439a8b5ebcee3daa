"""Subscriptions that the server refuses: seen, reported, and made again until the server accepts them.

The server ends a subscription when it reloads a configuration that no longer permits it, and does not restore it when the
permission is given back. It says so once, in an ``-ERR`` line.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from runtime.backoff import Backoff
from runtime.errors import PublishError
from runtime.nats.errors import PermissionDenied
from runtime.nats.subscription import Subscription

logger = logging.getLogger("actorloom.nats")

_BACKOFF: Final = Backoff(first=0.25, longest=2.0)
"""The pauses between two attempts to subscribe again."""


class Resubscribing:
    """The refused subscriptions of one connection.

    Args:
        flush: Waits until the server has processed everything that was sent before.
    """

    def __init__(self, flush: Callable[[float], Awaitable[None]]) -> None:
        self.refused: dict[Subscription, PermissionDenied] = {}
        """The subscriptions that the server refuses now, with the reason."""
        self._flush = flush
        self._task: asyncio.Task[None] | None = None

    def add(self, subscription: Subscription, error: PermissionDenied) -> None:
        """Note a refusal, and make the subscription again until it is accepted."""
        if subscription not in self.refused:
            logger.error("the server refuses the subscription to %s: it receives nothing", subscription.subject)
        self.refused[subscription] = error
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="actorloom nats subscribe again")

    def ended(self, subscription: Subscription) -> None:
        """Forget a subscription that has ended."""
        self.refused.pop(subscription, None)

    def stop(self) -> None:
        """Make no further attempt."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        attempt = 0
        while self.refused:
            attempt += 1
            await asyncio.sleep(_BACKOFF.delay(attempt))
            try:
                await self._try(list(self.refused))
            except (PublishError, TimeoutError) as error:
                logger.debug("the refused subscriptions were not made again: %s", error)

    async def _try(self, subscriptions: list[Subscription]) -> None:
        for subscription in subscriptions:
            await subscription.renew()
        await self._flush(5.0)
        for subscription in subscriptions:
            if subscription.error is None and self.refused.pop(subscription, None) is not None:
                logger.info("the server accepts the subscription to %s again", subscription.subject)
