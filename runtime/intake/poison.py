"""Poison-message candidates of an actor without state: events that may have ended the processes that had them (ADR 012).

An event can end its process (`os._exit`, out of memory) before anything can catch or count the failure. Processes of an
actor without state share a consumer, and the server counts its deliveries. An event that was delivered more often than its
handlers allow attempts is a *candidate*. Candidates run one at a time in the whole process. The number of each attempt is
stored before the attempt starts, because nothing can be stored after a death. A candidate that succeeds, fails or is given
back is cleared. A candidate whose process died in every attempt becomes a dead letter, and does not run again.

An actor with state has one owner, and knows more: see `runtime.intake.watch`.
"""

import asyncio
import logging
from functools import partial

from runtime.errors import ActorError
from runtime.intake.alone import OneAtATime, one_at_a_time
from runtime.intake.event_work import Trial
from runtime.intake.reactions import Reactions
from runtime.nats.jetstream.delivery import Delivery
from runtime.storage.positions import Positions

logger = logging.getLogger("actorloom.intake")

_SAVE_PAUSE = 1.0
"""Seconds between attempts to persist the number of an attempt."""
_SAVE_ATTEMPTS = 5
"""Attempts after which the event is given back for a later delivery: nothing waits for the server without a bound."""


class PoisonCandidates:
    """Receives the deliveries of one consumer, and runs its candidates one at a time. Other deliveries pass them."""

    def __init__(self, reactions: Reactions, positions: Positions, durable: str) -> None:
        self._reactions = reactions
        self._positions = positions
        self._durable = durable
        self._fewest_attempts, self._most_attempts = reactions.attempts()
        self._alone: OneAtATime = one_at_a_time()
        self._turns: dict[int, asyncio.Future[None]] = {}
        """By stream sequence, the candidates that wait for their turn."""
        self._begun: set[int] = set()
        """Candidates with a stored attempt whose end is not stored."""
        self._stopped = False

    def deliver(self, delivery: Delivery) -> None:
        """Receive a delivery from the puller. Never raises."""
        if delivery.delivered <= self._most_attempts:
            self._reactions.deliver(delivery)
        else:
            self._reactions.turns.spawn(self._run_alone(delivery))

    def stop(self) -> None:
        """Run no further candidate, and give the waiting ones back to the server."""
        self._stopped = True
        for turn in self._turns.values():
            _complete(turn)

    def survived(self) -> None:
        """Take back the attempts that were cut short: the process lives."""
        for sequence in self._begun:
            self._positions.forget_attempts(self._reactions.stream, self._durable, sequence)

    async def _run_alone(self, delivery: Delivery) -> None:
        """Deliver a candidate when it is its turn, and return when it has ended without a death."""
        sequence = delivery.stream_sequence
        try:
            await self._wait_for_turn(delivery)
            attempt = await self._begin_attempt(delivery)
            if self._stopped:
                delivery.nak()
            elif not attempt:
                delivery.nak(self._reactions.options.retry.longest)
            else:
                self._reactions.deliver(delivery, Trial(attempt))
            while delivery.in_hand:
                await delivery.watch()
        finally:
            self._alone.leave(delivery)
        if sequence in self._begun:
            await self._reset_attempts(delivery)
            self._begun.discard(sequence)

    async def _wait_for_turn(self, delivery: Delivery) -> None:
        event = (self._reactions.stream, self._durable, delivery.stream_sequence)
        turn = self._turns[delivery.stream_sequence] = asyncio.get_running_loop().create_future()
        try:
            if not self._alone.enter(event, delivery, partial(_complete, turn)) and not self._stopped:
                await turn
        finally:
            del self._turns[delivery.stream_sequence]

    async def _begin_attempt(self, delivery: Delivery) -> int:
        """Return the number of the attempt that starts now, and persist it if a handler has attempts left. 0 if that fails."""
        event = (self._reactions.stream, self._durable, delivery.stream_sequence)
        for _ in range(_SAVE_ATTEMPTS):
            if self._stopped:
                break
            try:
                before = await self._positions.attempts(*event)
                if before >= self._most_attempts:
                    return before + 1
                attempt = before + 1 if before else first_attempt(delivery.delivered - 1, self._fewest_attempts)
                self._begun.add(delivery.stream_sequence)
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


def first_attempt(deliveries: int, attempts: int) -> int:
    """Return the number of the first attempt in which a candidate runs alone.

    The deliveries before it became a candidate count as attempts, since they may have ended their processes. But a candidate
    that may have two or more attempts always runs alone at least twice: another event may have ended these processes, and
    the first death alone may have been a kill from outside.

    =============  =  =  =  =  =
    attempts       1  2  3  5  8
    =============  =  =  =  =  =
    0 deliveries   1  1  1  1  1
    1 delivery     1  1  2  2  2
    3 deliveries   1  1  2  4  4
    9 deliveries   1  1  2  4  7
    =============  =  =  =  =  =

    Args:
        deliveries: Earlier deliveries of the event.
        attempts: Attempts that its handler allows; if there are several handlers, the smallest number.
    """
    return min(deliveries + 1, max(attempts - 1, 1))


def _complete(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
