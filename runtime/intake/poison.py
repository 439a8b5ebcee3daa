"""Poison-message candidates: events that may have crashed the process that handled them (ADR 012).

An event can end its process (`os._exit`, out of memory) before anything can catch or count the failure. The next owner
receives it again, among hundreds of events that were in flight, and nothing shows which of them was the cause. A crash
blames one event only if that event ran alone. So every event that was in flight becomes a *candidate*, and candidates
run one at a time in the whole process. The number of each attempt is persisted before the attempt starts, because
nothing can be written after a crash. A candidate that succeeds, or fails without a crash, is cleared. A candidate that
crashed its process in every attempt becomes a dead letter, and does not run again.

Three rules keep the blame on the right event and the other candidates moving:

- A candidate that failed is still retried or dead-lettered, which may crash as well. The next candidate waits for that,
  for 10 s at most; otherwise, a crash could be blamed on it.
- A candidate that neither succeeds nor fails within 30 s keeps running, and the next candidate runs beside it.
- The end of a candidate is persisted too. Its acknowledgement may be lost in a later crash; the event is then delivered
  again, and starts with a fresh count.
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

_RUN_TIMEOUT = 30.0
"""Seconds that a candidate may run before the next candidate runs beside it."""
_RETRY_TIMEOUT = 10.0
"""Seconds that a failed candidate may take to succeed or become a dead letter, before the next candidate runs."""
_SAVE_PAUSE = 1.0
"""Seconds between attempts to persist the number of an attempt."""

_one_at_a_time: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
"""The lock that a candidate holds while it runs alone. A process has one event loop, so there is one lock a process."""


class PoisonCandidates:
    """Receives the deliveries of one consumer, and runs its poison-message candidates alone before the reactions go on.

    An actor with state has one owner, which resets its consumer, so the server's count of deliveries starts again. Its
    candidates are the deliveries up to the stream sequence `last`: they were in flight when `crashes` owners in a row
    crashed. Later deliveries wait until all candidates are done, because they may belong to the same keys.

    Processes of an actor without state share a consumer, and the server counts its deliveries. A candidate is a
    delivery that was delivered more often than its handlers allow attempts. Other deliveries pass it, as they have no
    order.
    """

    def __init__(
        self, reactions: Reactions, positions: Positions, durable: str, last: int = 0, crashes: int = 0
    ) -> None:
        self._reactions = reactions
        self._positions = positions
        self._durable = durable
        self._last = last
        self._crashes = crashes
        self._fewest_attempts, self._most_attempts = reactions.attempts()
        self._waiting: deque[Delivery] = deque()
        """Candidates, and deliveries that wait behind them. The first one is being run."""
        self._stopped = False

    def deliver(self, delivery: Delivery) -> None:
        """Receive a delivery from the puller. Never raises."""
        if not self._is_candidate(delivery) and not (self._waiting and self._reactions.keyed):
            self._reactions.deliver(delivery)
            return
        self._waiting.append(delivery)
        if len(self._waiting) == 1:
            self._reactions.turns.spawn(self._run_waiting())

    def stop(self) -> None:
        """Run no further candidate, and give the waiting deliveries back to the server."""
        self._stopped = True
        while len(self._waiting) > 1:
            self._waiting.pop().nak()

    def _is_candidate(self, delivery: Delivery) -> bool:
        if self._reactions.keyed:
            return delivery.stream_sequence <= self._last
        return delivery.delivered > self._most_attempts

    async def _run_waiting(self) -> None:
        lock = _one_at_a_time.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        while self._waiting:
            delivery = self._waiting[0]
            if self._is_candidate(delivery):
                async with lock:
                    await self._run_alone(delivery)
            else:
                self._reactions.deliver(delivery)
            self._waiting.popleft()

    async def _run_alone(self, delivery: Delivery) -> None:
        """Deliver a candidate, and return when it has ended without a crash, or has taken too long."""
        attempt = await self._begin_attempt(delivery)
        if self._stopped:
            delivery.nak()
            return
        ended = delivery.watch()
        self._reactions.deliver(delivery, attempt)
        await asyncio.wait({ended}, timeout=_RUN_TIMEOUT)
        # A failed candidate is retried or dead-lettered. Wait for that, so that a crash is not blamed on the next one.
        loop = asyncio.get_running_loop()
        until = loop.time() + _RETRY_TIMEOUT
        while delivery.in_hand and (left := until - loop.time()) > 0:
            await asyncio.wait({delivery.watch()}, timeout=left)
        if not delivery.in_hand and attempt <= self._most_attempts:
            await self._reset_attempts(delivery)

    async def _begin_attempt(self, delivery: Delivery) -> int:
        """Return the number of the attempt that starts now, and persist it if a handler has attempts left."""
        event = (self._reactions.stream, self._durable, delivery.stream_sequence)
        crashes = self._crashes if self._reactions.keyed else delivery.delivered - 1
        while not self._stopped:
            try:
                before = await self._positions.attempts(*event)
                if before >= self._most_attempts:
                    return before + 1
                attempt = before + 1 if before else first_attempt(crashes, self._fewest_attempts)
                await self._positions.save_attempts(*event, attempt)
                return attempt
            except (ActorError, TimeoutError) as error:
                logger.warning("%s/%s: event %d waits, its attempt cannot be persisted: %s", *event, error)
                await asyncio.sleep(_SAVE_PAUSE)
        return 0

    async def _reset_attempts(self, delivery: Delivery) -> None:
        """Persist that a candidate has ended: if it is delivered again, its attempts count from the start."""
        event = (self._reactions.stream, self._durable, delivery.stream_sequence)
        try:
            await self._positions.save_attempts(*event, 0)
        except (ActorError, TimeoutError) as error:
            logger.warning("%s/%s: the end of event %d cannot be persisted: %s", *event, error)


def first_attempt(crashes: int, attempts: int) -> int:
    """Return the number of the first attempt in which a candidate runs alone.

    The crashes before it became a candidate count as attempts, since it may have caused them. But a candidate that may
    have two or more attempts always runs alone at least twice: another event in flight may have caused those crashes,
    and the first crash alone may have been a kill from outside.

    =========  =  =  =  =  =
    attempts   1  2  3  5  8
    =========  =  =  =  =  =
    0 crashes  1  1  1  1  1
    1 crash    1  1  2  2  2
    3 crashes  1  1  2  4  4
    9 crashes  1  1  2  4  7
    =========  =  =  =  =  =

    Args:
        crashes: Crashes while the event was in flight.
        attempts: Attempts that its handler allows; if there are several handlers, the smallest number.
    """
    return min(crashes + 1, max(attempts - 1, 1))
