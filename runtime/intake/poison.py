"""Events that their process may have ended of: each is tried alone, noted before that, and counted out at last (ADR 012).

As long as others run beside it, which one ends the process cannot be known. What has been tried alone as often as its
attempts, and never came to an end, is a dead letter without being run again.
"""

import asyncio
import logging
from collections import deque
from weakref import WeakKeyDictionary

from runtime.errors import ActorError
from runtime.intake.reactions import Reactions
from runtime.nats.jetstream.delivery import Delivery
from runtime.storage.positions import Positions

logger = logging.getLogger("actorloom.intake")

_PATIENCE = 30.0
"""Seconds that one may take to end well or fail, before the next is tried beside it."""
_FAILING = 10.0
"""Seconds that one which has failed may take to succeed or be a dead letter, before the next is tried beside it."""
_PAUSE = 1.0
"""Seconds before it is tried again to write a note."""

_alone: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
"""Held while one is tried: alone in its whole process, which is one event loop."""


class PoisonCandidates:
    """Stands between the puller of `durable` and its reactions.

    Of an actor with state, all up to the sequence `last` are suspects: they were in hand when `crashes` owners crashed. What
    follows them waits, for the order of keys. Without state, the server's count of deliveries tells: one that was delivered
    more often than its attempts is a suspect, and others pass it by.
    """

    def __init__(
        self, reactions: Reactions, positions: Positions, durable: str, last: int = 0, crashes: int = 0
    ) -> None:
        self._reactions = reactions
        self._positions = positions
        self._durable = durable
        self._last = last
        self._crashes = crashes
        self._least, self._most = reactions.attempts()
        self._waiting: deque[Delivery] = deque()
        """The first one is being tried."""
        self._stopped = False

    def deliver(self, delivery: Delivery) -> None:
        """Take a delivery from the puller. Never raises."""
        if not self._is_candidate(delivery) and not (self._waiting and self._reactions.keyed):
            self._reactions.deliver(delivery)
            return
        self._waiting.append(delivery)
        if len(self._waiting) == 1:
            self._reactions.turns.spawn(self._run_all())

    def stop(self) -> None:
        """Try no more: what waits is given back."""
        self._stopped = True
        while len(self._waiting) > 1:
            self._waiting.pop().nak()

    def _is_candidate(self, delivery: Delivery) -> bool:
        if self._reactions.keyed:
            return delivery.stream_sequence <= self._last
        return delivery.delivered > self._most

    async def _run_all(self) -> None:
        lock = _alone.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        while self._waiting:
            delivery = self._waiting[0]
            if self._is_candidate(delivery):
                async with lock:
                    await self._run_alone(delivery)
            else:
                self._reactions.deliver(delivery)
            self._waiting.popleft()

    async def _run_alone(self, delivery: Delivery) -> None:
        """Hand it on, and wait until it has ended once: well, or with a failure that leaves the process alive."""
        number = await self._next_attempt(delivery)
        if self._stopped:
            delivery.nak()
            return
        delivery.delivered = number
        ended = delivery.watch()
        self._reactions.deliver_suspect(delivery)
        await asyncio.wait({ended}, timeout=_PATIENCE)
        # One that failed is tried again, or buried: if that ends the process, it is not to be laid on the next one.
        loop = asyncio.get_running_loop()
        until = loop.time() + _FAILING
        while delivery.in_hand and (left := until - loop.time()) > 0:
            await asyncio.wait({delivery.watch()}, timeout=left)
        if not delivery.in_hand and number <= self._most:
            await self._clear(delivery)

    async def _clear(self, delivery: Delivery) -> None:
        """Note that it has come to its end: delivered again, since the acknowledgement was lost, it begins anew."""
        where = (self._reactions.stream, self._durable, delivery.stream_sequence)
        try:
            await self._positions.save_attempts(*where, 0)
        except (ActorError, TimeoutError) as error:
            logger.warning("%s/%s: that event %d has ended cannot be noted: %s", *where, error)

    async def _next_attempt(self, delivery: Delivery) -> int:
        """Return which try this is, noted durably where it will be run."""
        where = (self._reactions.stream, self._durable, delivery.stream_sequence)
        earlier = self._crashes if self._reactions.keyed else delivery.delivered - 1
        while not self._stopped:
            try:
                tries = await self._positions.attempts(*where)
                if tries >= self._most:
                    return tries + 1
                # Twice alone it is run in any case: others may have ended the process before, or somebody from outside.
                number = tries + 1 if tries else min(earlier + 1, max(self._least - 1, 1))
                await self._positions.save_attempts(*where, number)
                return number
            except (ActorError, TimeoutError) as error:
                logger.warning("%s/%s: event %d waits, as its try cannot be noted: %s", *where, error)
                await asyncio.sleep(_PAUSE)
        return 0
