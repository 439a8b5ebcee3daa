"""The watch: after a death, an owner stores which events run, so that a further death blames no others (ADR 012).

Only events that were in hand at a death are watched. Each is stored as running before its types and its handler run, and
no longer when the handler has ended, or waits for another attempt. One message holds all events that run. It is written
again as soon as it is out of date, so events that begin together wait for one round trip.

*Suspects* ran at a death. Each runs alone among the suspects: see `OneAtATime`. Only their keys wait meanwhile.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Hashable, Iterable
from functools import partial

from runtime.errors import ActorError
from runtime.intake.alone import OneAtATime, one_at_a_time
from runtime.intake.blame import used_attempts
from runtime.intake.event_work import EventWork, Trial
from runtime.intake.reactions import Reactions
from runtime.nats.jetstream.delivery import Delivery
from runtime.storage.positions import ConsumerPosition, Positions, Running

logger = logging.getLogger("actorloom.intake")

_BATCH = 32
"""Events that are read together. All of them are suspects if one of them ends the process as it is read."""
_SAVE_PAUSE = 1.0
"""Seconds between attempts to store which events run."""
_SAVE_ATTEMPTS = 5
"""Attempts after which the events that wait run all the same: nothing waits for the server without a bound."""


class Watch:
    """Receives the deliveries of one consumer, and passes them to the reactions.

    Args:
        reactions: The receiver of the events.
        positions: The store of positions. It has the position of the consumer, with the owner and the deaths before it.
        durable: The name of the consumer.
    """

    def __init__(self, reactions: Reactions, positions: Positions, durable: str, position: ConsumerPosition) -> None:
        self._reactions = reactions
        self._turns = reactions.turns
        self._marks = Marks(reactions, positions, durable, position)
        self._alone: OneAtATime = one_at_a_time()
        self._reading: deque[Delivery] = deque()
        """Deliveries that are read next, in order. Later ones must not pass them, since they may have the same keys."""
        self._active = False
        self._stopped = False
        self.update(position)
        if self._suspects:
            self._alone.expect(self)

    def update(self, position: ConsumerPosition) -> None:
        """Take the deaths from a position."""
        self._suspects = used_attempts(position)
        self._last_suspect = max(self._suspects, default=0)
        self._last = max(position.last_in_hand, self._last_suspect)
        if not self._suspects:
            self._alone.read(self)

    def deliver(self, delivery: Delivery) -> None:
        """Receive a delivery from the puller. Never raises."""
        if not self._active and delivery.stream_sequence > self._last:
            self._alone.read(self)
            self._reactions.deliver(delivery)
            return
        self._reading.append(delivery)
        if not self._active:
            self._active = True
            self._turns.spawn(self._read())

    def stop(self) -> None:
        """Read no further event, and give those that wait back to the server."""
        self._stopped = True
        self._alone.read(self)
        while self._reading:
            self._reading.pop().nak()

    async def run(self, work: EventWork) -> None:
        """Run the turn of an event once it is stored as running. A suspect keeps its lane until it is its turn."""
        key, sequence = work.lane, work.completion.delivery.stream_sequence
        assert key is not None, "the actor has a state"
        try:
            if await self._was_handled(work):
                await self._turns.run(key, work)
                return
        except asyncio.CancelledError:
            work.abandon()
            raise
        if sequence in self._suspects and not self._alone.enter(
            (self._marks.consumer, sequence), work, partial(self._turns.resume, work)
        ):
            self._turns.hold(work)
            return
        try:
            await self._marks.begin(work, (sequence,))
        except BaseException:
            work.abandon()
            raise
        await self._turns.run(key, work)

    def used(self, sequence: int) -> int:
        """Return the attempts that deaths have used of a suspect; -1 for another event."""
        return self._suspects.get(sequence, -1)

    async def begin(self, work: EventWork) -> None:
        """Return when an event is stored as running that runs in another partition of this process."""
        await self._marks.begin(work, (work.completion.delivery.stream_sequence,))

    def ended(self, work: EventWork) -> None:
        """The turn of an event has ended, or the event was given back."""
        self._marks.end(work)
        self._alone.leave(work)

    async def _was_handled(self, work: EventWork) -> bool:
        """Return whether the record of the key shows that the event was handled, so that its handler does not run."""
        key = work.lane
        assert key is not None, "the actor has a state"
        try:
            await self._turns.keys.ensure_loaded(key)
        except ActorError:
            return False  # The turn answers the failure.
        return key.find(work.id) is not None

    async def _read(self) -> None:
        try:
            while batch := self._next_batch():
                await self._marks.begin(batch, [each.stream_sequence for each in batch])
                for delivery in batch:
                    self._deliver(delivery)
                self._marks.end(batch)
        finally:
            self._active = False

    def _next_batch(self) -> tuple[Delivery, ...]:
        """Take the deliveries that are read together: one suspect, or some events that are none."""
        batch: list[Delivery] = []
        while self._reading and len(batch) < _BATCH:
            if self._reading[0].stream_sequence in self._suspects:
                return tuple(batch or [self._reading.popleft()])
            batch.append(self._reading.popleft())
        return tuple(batch)

    def _deliver(self, delivery: Delivery) -> None:
        if self._stopped:
            delivery.nak()
            return
        sequence = delivery.stream_sequence
        used = self._suspects.get(sequence)
        self._reactions.deliver(delivery, Trial(None if used is None else used + 1, self))
        if sequence >= self._last_suspect:
            self._alone.read(self)


class Marks:
    """The events of one consumer that run, as they are stored for the next owner.

    Args:
        reactions: The receiver of the events.
        positions: The store.
        durable: The name of the consumer.
        position: The position of the consumer, with its owner.
    """

    def __init__(self, reactions: Reactions, positions: Positions, durable: str, position: ConsumerPosition) -> None:
        self.consumer = (reactions.stream, durable)
        self._turns = reactions.turns
        self._positions = positions
        self._owner = position.owner
        self._ownership = position.ownership
        self._running: dict[Hashable, Iterable[int]] = {}
        self._stored: set[int] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self._writing = False
        self._failures = 0
        """Attempts in a row that have failed."""

    async def begin(self, message: Hashable, sequences: Iterable[int]) -> None:
        """Return when the events at `sequences` are stored as running, on behalf of `message`."""
        self._running[message] = sequences
        if not self._writing and self._stored.issuperset(sequences):
            return
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append(stored)
        self._write_soon()
        await stored

    def end(self, message: Hashable) -> None:
        """Store that the events of `message` do not run any more. Nothing happens if they did not."""
        if self._running.pop(message, None) is not None:
            self._write_soon()

    def _write_soon(self) -> None:
        if not self._writing:
            self._writing = True
            self._turns.spawn(self._write())

    async def _write(self) -> None:
        """Store the events that run until the stored ones are right."""
        try:
            while (
                running := {each for group in self._running.values() for each in group}
            ) != self._stored or self._waiting:
                if not self._turns.owns():
                    return  # A former owner begins nothing any more. Its messages are abandoned.
                waiting, self._waiting = self._waiting, []
                stored = await self._save(running)
                if stored:
                    self._stored, self._failures = running, 0
                if stored or self._failures >= _SAVE_ATTEMPTS:
                    for each in waiting:
                        if not each.done():
                            each.set_result(None)
                else:
                    self._waiting = waiting + self._waiting
                if not stored and not self._waiting:
                    return  # The next change stores it.
        finally:
            self._writing = False

    async def _save(self, running: set[int]) -> bool:
        try:
            await self._positions.save_running(
                *self.consumer, Running(self._owner, self._ownership, tuple(sorted(running)))
            )
        except (ActorError, TimeoutError) as error:
            self._failures += 1
            if self._failures == _SAVE_ATTEMPTS:
                logger.error("%s/%s: events run, though that cannot be stored: %s", *self.consumer, error)
            elif self._failures == 1:
                logger.warning("%s/%s: events wait, it cannot be stored that they run: %s", *self.consumer, error)
            await asyncio.sleep(_SAVE_PAUSE)
            return False
        return True
