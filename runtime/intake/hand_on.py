"""Handing on: events whose key belongs to another partition go to the owner of that key, in order.

A reaction may act on another key than that of its event (``@react(key="order_id")``), and that key may be in another
partition. The owner that pulls the event keeps it in hand, in a lane of the key that it acts on. It sends the first event of
each lane to the owner of the key (``<actor>.handon.<partition>``), which runs it like an event of its own: with retries, and
as a dead letter after the last one. The next event of the lane follows when that is done. So the order of the events of a key
stays, and each takes effect once, by the record of the key that it acts on.

The sender asks again and again until the event is finished. An event that runs for long is asked for without its body. If no
process answers, or the one that does has not got the event, all of it is sent again. The receiver recognizes one that it has
in hand, or has handled. An owner that stops keeps nothing: its successor pulls the same events, and hands them on again.

An event must not end processes for ever (ADR 012). The sender counts, since it outlives the receiver: an event that was in
hand when a receiver vanished is *watched* from then on, which means that the receiver runs it only once the sender knows it. If
another receiver vanishes while it runs, that uses an attempt. If sender and receiver are the same process, the position of
the consumer does the same.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from runtime.backoff import Backoff
from runtime.errors import ActorError, PublishError
from runtime.intake.event_work import EventWork, GatedWork
from runtime.intake.sent_event import SentEvent
from runtime.intake.watch import Watch
from runtime.nats.connection import NoResponders
from runtime.telemetry import semconv
from runtime.turns.served import Served
from runtime.turns.turn import Turns
from runtime.wire import header_block
from runtime.wire.buckets import Partition, partition_of
from runtime.wire.codec import UNDECODABLE
from runtime.wire.hand_on import Answer, Place, Status, read_answer
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token

logger = logging.getLogger("actorloom.intake")

_BACKOFF = Backoff(first=0.03, longest=1.0)
"""The pauses between two attempts to reach the owner of a partition."""

Charge = Callable[[str, str, int, int], Awaitable[None]]
"""Stores that an event has used attempts, given stream, consumer, sequence and their number."""


class _Partition:
    """What is known of the owner of another partition."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.subject = names.hand_on().encode()
        self.down = False
        """Whether nobody served it at the last attempt. Then one lane tries, and the others wait for it."""
        self.trying = asyncio.Lock()


class HandOn:
    """Hands events on, for one owner.

    Args:
        served: The actor, its names and clients.
        turns: The turns of this owner, which wait for the lanes at a drain.
        charge: Stores the attempts that an event has used at deaths.
    """

    def __init__(self, served: Served, turns: Turns, charge: Charge) -> None:
        self._served = served
        self._turns = turns
        self._charge = charge
        names, total = served.names, served.names.partition.total
        self._partitions = [_Partition(names.of(Partition(total, number))) for number in range(total)]
        self._lanes: dict[str, deque[SentEvent]] = {}
        """By the token of the key that they act on, the events in hand. The first one is being handed on."""
        self._stopping = asyncio.Event()
        self._counter = served.tracer.counter(semconv.REACTIONS_HANDED_ON, {})

    def take(self, work: EventWork) -> bool:
        """Take an event whose key is in another partition; return False if it is in the own one.

        Raises:
            CodecError: No subject can hold the key.
        """
        token, (total, own) = key_token(work.key), self._served.names.partition
        number = partition_of(token, total)
        if number == own:
            return False
        delivery = work.completion.delivery
        place = Place(work.reactions.stream, delivery.stream_sequence, work.handler.name)
        watch = work.gate if isinstance(work, GatedWork) and isinstance(work.gate, Watch) else None
        used = -1 if watch is None else watch.used(delivery.stream_sequence)
        sent = SentEvent(work, place, watch, watch is not None, used)
        self._counter.value += 1
        lane = self._lanes.get(token)
        if lane is not None:
            lane.append(sent)
            work.park()
        elif self._stopping.is_set():
            _give_back(sent)
        else:
            self._lanes[token] = lane = deque((sent,))
            self._turns.spawn(self._run(token, lane, self._partitions[number]))
        return True

    def park(self) -> None:
        """Park all events in hand. The puller calls this from time to time while its room is scarce."""
        for lane in self._lanes.values():
            for sent in lane:
                sent.work.park()

    def stop(self) -> None:
        """Hand nothing on any more. What is in hand is given back as soon as its receiver has answered once more."""
        self._stopping.set()

    async def _run(self, token: str, lane: deque[SentEvent], partition: _Partition) -> None:
        """Hand the events of one lane on, one after another."""
        try:
            while lane and await self._hand_on(lane[0], partition):
                lane.popleft()
        finally:
            del self._lanes[token]
            for sent in lane:
                _give_back(sent)

    async def _hand_on(self, sent: SentEvent, partition: _Partition) -> bool:
        """Return whether an event is finished. It is not if this owner stops."""
        # A process that was paused learns of a lost lease late, so its clock is asked.
        while not self._stopping.is_set() and self._turns.owns():
            answer = await self._ask(sent, partition)
            if answer is not None and await self._is_finished(sent, answer, partition):
                return True
        return False

    async def _is_finished(self, sent: SentEvent, answer: Answer, partition: _Partition) -> bool:
        """Take note of an answer, and return whether it ends the event."""
        work, status = sent.work, answer.status
        if status is Status.UNKNOWN:
            await self._vanished(sent, partition)
        sent.known = status in (Status.BUSY, Status.READY)
        sent.refused = 0 if sent.known else sent.refused
        if answer.used > sent.all_used:
            sent.deaths = []  # They are in it.
            await self._use(sent, answer.used)
        if status is Status.READY:
            sent.running, sent.owner = True, (answer.holder, answer.ownership)
            if sent.watch is not None and answer.holder == self._served.holder:
                await sent.watch.begin(work)
            return False
        if not answer.running:
            self._ran(sent)
        if status is Status.DONE or status is Status.DEAD:
            self._end(sent, answer)
            return True
        work.park()
        if status is Status.REFUSED:
            sent.refused += 1
            if sent.refused == 1:
                logger.error("%s: %s cannot be handed on: %s", self._served.name, work.label, answer.text)
        if status is Status.BACK or status is Status.LEAVING or status is Status.REFUSED:
            await self._pause(max(answer.delay, _BACKOFF.delay(1 + sent.refused)))
        return False

    async def _ask(self, sent: SentEvent, partition: _Partition) -> Answer | None:
        """Send an event, or ask for it. Return the answer, or None if there is none."""
        if not partition.down:
            return await self._request(sent, partition, sent.known)
        sent.work.park()
        async with partition.trying:
            failures = 1
            while partition.down and not self._stopping.is_set():
                await self._pause(_BACKOFF.delay(failures))
                # A question is answered at once by an owner that has not got the event, whatever its handler would do.
                answer = await self._request(sent, partition, True)
                if not partition.down:
                    return answer
                failures += 1
        return None

    async def _request(self, sent: SentEvent, partition: _Partition, question: bool) -> Answer | None:
        """Send an event, or only a question about it. Return the answer, or None if there is none."""
        connection, timeout = self._served.connection, self._served.lease_ttl
        body = sent.question() if question else sent.body(connection.max_payload)
        try:
            expires_at = asyncio.get_running_loop().time() + timeout
            reply = await connection.request_nowait(partition.subject, body, None, expires_at)
            answer = read_answer(reply.payload)
        except NoResponders:
            if not partition.down:
                number = partition.names.partition.number
                logger.info("%s: no process owns partition %d: its events wait", self._served.name, number)
            partition.down = True
            await self._vanished(sent, partition)
            return None
        except TimeoutError:
            sent.known = True  # It may have arrived. If not, the answer to the question says so.
            return None
        except (ActorError, *UNDECODABLE) as error:
            logger.info("%s: %s is not handed on yet: %s", self._served.name, sent.work.label, error)
            await self._pause(_BACKOFF.longest if isinstance(error, PublishError) else _BACKOFF.first)
            return None
        partition.down = False
        return answer

    async def _vanished(self, sent: SentEvent, partition: _Partition) -> None:
        """Take note that the receiver of an event has not got it any more, and has not given it back."""
        if not sent.known and not sent.running:
            return
        sent.known, sent.watched = False, True
        if sent.running:
            self._ran(sent)
            sent.deaths = [each for each in (*sent.deaths, sent.owner) if not await self._survived(each, partition)]
            if sent.deaths:
                logger.error("%s: %s ran when its process ended", self._served.name, sent.work.label)
                await self._use(sent, sent.used)

    async def _survived(self, owner: tuple[str, int], partition: _Partition) -> bool:
        """Return whether the process of a former owner has said that it lives: it was paused, or has lost its lease."""
        names, (holder, ownership) = partition.names, owner
        try:
            stored = await self._served.jetstream.get_last(names.turns_stream, names.survival(holder))
        except (ActorError, TimeoutError):
            return False
        return stored is not None and (header_block.number(stored.payload) or 0) >= ownership

    async def _use(self, sent: SentEvent, used: int) -> None:
        """Store the attempts that an event has used, so that a successor of this owner knows them too.

        Args:
            sent: The event.
            used: Those that it has used before the owners in `SentEvent.deaths` had it.
        """
        sent.watched, sent.used = True, used
        place, work, all_used = sent.place, sent.work, sent.all_used
        work.reactions.exits[place.sequence] = all_used
        try:
            await self._charge(place.stream, work.reactions.durable, place.sequence, all_used)
        except (ActorError, TimeoutError) as error:
            logger.warning("%s: the attempts of %s cannot be stored: %s", self._served.name, work.label, error)

    def _ran(self, sent: SentEvent) -> None:
        if sent.running:
            sent.running = False
            if sent.watch is not None:
                sent.watch.ended(sent.work)

    def _end(self, sent: SentEvent, answer: Answer) -> None:
        work = sent.work
        work.reactions.exits.pop(sent.place.sequence, None)
        if answer.status is Status.DONE:
            work.completion.done()
        else:
            work.completion.dead_lettered(answer.text)

    async def _pause(self, seconds: float) -> None:
        """Wait for some seconds, or until this owner stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def _give_back(sent: SentEvent) -> None:
    """Give an event back to the server. It is delivered again, to the successor of this owner."""
    sent.work.completion.delivery.nak()
    if sent.watch is not None:
        sent.watch.ended(sent.work)
