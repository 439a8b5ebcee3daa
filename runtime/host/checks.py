"""The checks of an ownership from time to time: idle keys, streams, consumers, the checkpoint, commits of a former owner."""

import asyncio
import contextlib
import logging

from runtime.errors import ActorError, ConfigurationError
from runtime.intake.consumers import Consumers
from runtime.storage.fence import Fence
from runtime.storage.relay import Relay
from runtime.turns.served import Served
from runtime.turns.turn import Turns

logger = logging.getLogger("actorloom.host")

_TICK = 5.0
"""Seconds between checks: idle keys, streams and consumers, the relay's checkpoint."""
_FOLLOW = 0.25
"""Seconds between looks at the turns stream, as long as a former owner may write."""


class Checks:
    """The checks of one ownership. Each method runs until it is cancelled, and raises what ends the ownership."""

    def __init__(self, served: Served, turns: Turns, consumers: Consumers, relay: Relay, fence: Fence) -> None:
        self.reconnected = asyncio.Event()
        """Set by each reconnect."""
        self._served = served
        self._turns = turns
        self._consumers = consumers
        self._relay = relay
        self._fence = fence

    async def run(self) -> None:
        """Evict idle keys, look whether the streams and consumers exist, and save the checkpoint, again and again."""
        while True:
            await self._consumers.wait_for_check(_TICK)
            if not self._turns.owns():
                # The process was paused, and its lease has expired. Its view is out of date and must not be saved.
                continue
            self._turns.keys.evict(self._served.options.idle)
            try:
                await self._served.streams.check()
                await self._relay.sweep()
                await self._consumers.check()
            except ConfigurationError:
                raise
            except (ActorError, TimeoutError) as error:
                logger.warning("%s: the checkpoint could not be saved: %s", self._served.label, error)

    async def follow(self) -> None:
        """Learn of commits of a former owner that are stored after the take-over, as long as there may be any.

        After each reconnect, look whether the stream is still the same: a server that was restored from a backup has started
        again.
        """
        reconnected, due = self.reconnected, False
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reconnected.wait(), _FOLLOW if due or self._fence.raised else _TICK)
            due |= reconnected.is_set()
            reconnected.clear()
            if not self._turns.owns() or not (due or self._fence.raised):
                continue
            try:
                await self._relay.foreign.follow()
                due = False
            except ConfigurationError:
                raise
            except (ActorError, TimeoutError) as error:
                logger.debug("%s: the turns stream could not be followed: %s", self._served.label, error)
