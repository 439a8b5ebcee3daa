"""An event that was handed on to this owner, from its arrival to its end, which is an answer.

A *watched* event was in hand when a process died. It runs only once whoever hands it on knows that it runs (ADR 012).
"""

import asyncio
import logging
from functools import partial
from typing import Protocol

import msgspec

from runtime.errors import ActorError
from runtime.intake.alone import one_at_a_time
from runtime.intake.event_work import EventWork
from runtime.nats.jetstream.delivery import Delivery
from runtime.turns.turn import Turns
from runtime.wire.hand_on import Answer, HandedOn, Status

logger = logging.getLogger("actorloom.intake")

_KEPT = 10.0
"""Seconds for which the end of an event is kept if nobody has asked for it at that moment."""


class Receiver(Protocol):
    """The part of `HandedOnEvents` that an event uses. It is a protocol, since `handed_on` imports this module."""

    turns: Turns
    tick: float
    """Seconds after which a question is answered about an event that is still in hand."""
    confirm: float
    """Seconds for which a watched event waits until whoever hands it on knows that it runs."""

    def answer(self, reply: bytes, answer: Answer) -> None:
        """Send an answer."""
        ...

    def forget(self, event: "HandedEvent") -> None:
        """Forget an event that has ended."""
        ...


class HandedEvent:
    """One event that was handed on: the owner of its delivery, and the gate of a watched one.

    Args:
        receiver: The receiver of the events.
        message: The event.
    """

    def __init__(self, receiver: Receiver, message: HandedOn) -> None:
        self.message = message
        self.place = message.place
        self.exits: dict[int, int] = {}
        """The attempts of events that have asked for the end of the process; see `Reactions.exits`."""
        self._receiver = receiver
        self._reply = b""
        """The reply subject of the question that is not answered yet."""
        self._timer: asyncio.TimerHandle | None = None
        self._end: Answer | None = None
        """How the event has ended, if nobody has asked since."""
        self._running = False
        self._confirmed: asyncio.Future[None] | None = None
        """Ends with the question after the answer that the event is ready to run."""
        self._told = False
        """Whether that answer was sent."""

    def delivery(self, headers: bytes | None, payload: bytes) -> Delivery:
        """Return a delivery of the event whose end is an answer."""
        message = self.message
        return Delivery(
            self, 0, message.subject, message.ack, headers, payload, message.place.sequence, message.delivered
        )

    def ask(self, reply: bytes) -> None:
        """Answer a question: at the end of the event, or after a moment."""
        if self._end is not None:
            self._receiver.answer(reply, self._end)
            self._forget()
            return
        self._reply = reply
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._receiver.tick, self._tick)
        if self._confirmed is not None and not self._confirmed.done():
            if self._told:
                self._confirmed.set_result(None)
            else:
                self._tell_ready()

    def finish(self, delivery: Delivery, payload: bytes) -> None:
        """Take note of the end of the event, which is an acknowledgement."""
        if self._end is not None:
            return
        kind, _, rest = payload.partition(b" ")
        used = self.exits.pop(self.place.sequence, -1)
        if kind == b"+ACK":
            self._end = Answer(Status.DONE)
        elif kind == b"+TERM":
            self._end = Answer(Status.DEAD, text=rest.decode())
        else:
            self._end = Answer(Status.BACK, used=used, delay=_delay(rest))
        self._stop_timer()
        if self._reply:
            self._receiver.answer(self._reply, self._end)
            self._forget()
        else:
            self._timer = asyncio.get_running_loop().call_later(_KEPT, self._forget)

    def park(self, delivery: Delivery) -> bool:
        """Return True: a handed-on event takes no room of an own consumer."""
        return True

    def has(self, delivery: Delivery) -> bool:
        """Return whether the event has not ended."""
        return self._end is None

    def watch(self, delivery: Delivery) -> asyncio.Future[None]:
        """Nobody waits for a handed-on event in this way: it is for actors without state."""
        raise NotImplementedError

    async def run(self, work: EventWork) -> None:
        """Run the turn of a watched event as soon as whoever hands it on knows that it runs. A suspect runs alone."""
        key, turns = work.lane, self._receiver.turns
        assert key is not None, "the actor has a state"
        try:
            if not await self._was_handled(work):
                suspect = self.message.used >= 0
                if suspect and not one_at_a_time().enter(self.place, work, partial(turns.resume, work)):
                    turns.hold(work)
                    return
                await self._confirm()
        except BaseException:
            work.abandon()
            raise
        await turns.run(key, work)

    def ended(self, work: EventWork) -> None:
        """The turn of a watched event has ended, or waits for another attempt."""
        self._running = False
        one_at_a_time().leave(work)

    async def _was_handled(self, work: EventWork) -> bool:
        key = work.lane
        assert key is not None, "the actor has a state"
        try:
            await self._receiver.turns.keys.ensure_loaded(key)
        except ActorError:
            return False  # The turn answers the failure.
        return key.find(work.id) is not None

    async def _confirm(self) -> None:
        """Return when whoever hands the event on knows that it runs, or does not ask any more."""
        self._confirmed, self._told = asyncio.get_running_loop().create_future(), False
        if self._reply:
            self._tell_ready()
        try:
            async with asyncio.timeout(self._receiver.confirm):
                await self._confirmed
        except TimeoutError:
            logger.info("%s: nobody asks for a handed-on event: it runs all the same", self.place)
        finally:
            self._confirmed = None
        self._running = True

    def _tell_ready(self) -> None:
        self._told = True
        self._respond(Answer(Status.READY))

    def _tick(self) -> None:
        self._timer = None
        if self._reply:
            used = self.exits.get(self.place.sequence, -1)
            self._respond(Answer(Status.BUSY, running=self._running, used=used))

    def _respond(self, answer: Answer) -> None:
        reply, self._reply = self._reply, b""
        self._stop_timer()
        self._receiver.answer(reply, answer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget(self) -> None:
        self._stop_timer()
        self._receiver.forget(self)


def _delay(text: bytes) -> float:
    """Return the seconds of a negative acknowledgement with a delay."""
    if not text:
        return 0.0
    return msgspec.json.decode(text, type=dict[str, float]).get("delay", 0.0) / 1e9
