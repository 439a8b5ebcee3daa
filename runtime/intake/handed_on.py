"""Handed-on events: those of other partitions that act on a key of this one. `runtime.intake.hand_on` sends them.

An event that arrives is put into the lane of its key, and is then like an event of an own consumer. Its end is the answer to
whoever asks for it then. A question about an event that is in hand is answered after a moment, if it does not end before. An
event that comes again while it is in hand joins it, so repetitions do not pile up.
"""

import asyncio
import logging
from functools import partial

import msgspec

from runtime.actor.handler import Handler
from runtime.errors import ActorError, CodecError, PublishError
from runtime.intake.alone import one_at_a_time
from runtime.intake.endpoint import inboxes
from runtime.intake.event_work import Completion, EventRoute, EventWork, Trial
from runtime.intake.reactions import Reactions, event_subject, opened
from runtime.intake.redrive import Redrives
from runtime.nats.jetstream.delivery import Delivery
from runtime.turns.served import Served
from runtime.turns.turn import Turns
from runtime.wire.buckets import partition_of
from runtime.wire.codec import UNDECODABLE
from runtime.wire.hand_on import Answer, HandedOn, Place, Status, encode, read_handed_on
from runtime.wire.subjects import key_token

logger = logging.getLogger("actorloom.intake")

_TICK = 0.25
"""The fraction of a lease after which a question is answered about an event that is still in hand."""
_CONFIRM = 1.5
"""The fraction of a lease for which a watched event waits until whoever hands it on knows that it runs."""
_KEPT = 10.0
"""Seconds for which the end of an event is kept if nobody has asked for it at that moment."""


class HandedOnEvents:
    """Receives the events that other owners hand on to this one.

    Args:
        served: The actor, its names and clients.
        turns: The turns that run the handlers.
        ownership: The number of this ownership in this process.
    """

    def __init__(self, served: Served, turns: Turns, ownership: int) -> None:
        self._ownership = ownership
        self.leaving = False
        """Whether this owner stops. It then finishes what it has in hand."""
        self.tick = served.lease_ttl * _TICK
        self.confirm = served.lease_ttl * _CONFIRM
        self._served = served
        self._turns = turns
        self._entries: dict[Place, _Entry] = {}
        self._inboxes = inboxes(served.connection)
        handlers = served.actor.handlers
        self._handlers = {each.name: each for each in (*handlers.all_reactions(), *handlers.commands.values())}
        self._redrives = Redrives(served, turns, self._handlers.values())
        self._reactions: dict[tuple[str, str], Reactions] = {}
        self._routes: dict[tuple[str, str, str], EventRoute] = {}

    def receive(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        """Receive an event, or a question about one. Called from the read loop; never raises."""
        if not reply.startswith(self._inboxes):
            return
        try:
            message = read_handed_on(payload)
        except UNDECODABLE as error:
            self.answer(reply, Answer(Status.REFUSED, text=f"{subject.decode()}: {error}"))
            return
        entry = self._entries.get(message.place)
        if entry is not None:
            entry.ask(reply)
        elif not message.id:
            self.answer(reply, Answer(Status.UNKNOWN))
        elif refusal := self._refusal(message):
            self.answer(reply, Answer(Status.REFUSED, text=f"{subject.decode()}: {refusal}"))
        else:
            entry = self._entries[message.place] = _Entry(self, message)
            entry.ask(reply)
            self._begin(entry)

    def answer(self, reply: bytes, answer: Answer) -> None:
        """Send an answer. If it cannot be sent, the other owner asks again."""
        if answer.status is Status.BUSY and self.leaving:
            answer = msgspec.structs.replace(answer, status=Status.LEAVING, running=False)
        answer = msgspec.structs.replace(answer, holder=self._served.holder, ownership=self._ownership)
        try:
            self._served.connection.respond(reply, encode(answer))
        except PublishError as error:
            logger.info("%s: an answer about a handed-on event is not sent: %s", self._served.name, error)

    def forget(self, entry: "_Entry") -> None:
        """Forget an event that has ended."""
        self._entries.pop(entry.place, None)

    def _refusal(self, message: HandedOn) -> str:
        """Return why a message cannot be accepted; empty if it can."""
        total, own = self._served.names.partition
        try:
            number = partition_of(key_token(message.key), total)
        except CodecError as error:
            return str(error)
        if number != own:
            return f"the key {message.key!r} is in partition {number} of {total}"
        if message.place.handler not in self._handlers:
            return f"this version of {self._served.name} has no handler {message.place.handler!r}"
        return ""

    def _begin(self, entry: "_Entry") -> None:
        """Put an event into the lane of its key, or read it from its stream before."""
        message = entry.message
        if message.payload is None:
            self._turns.spawn(self._load(entry))
        else:
            self._admit(entry, message.headers, message.payload)

    async def _load(self, entry: "_Entry") -> None:
        """Read an event that was sent without its body. A dead letter in parts is read with its parts."""
        message = entry.message
        delivery = entry.delivery(None, b"")
        try:
            stored = await self._served.jetstream.get(message.place.stream, message.place.sequence)
            if stored is None:
                logger.error("%s: an event is not stored any more: %s", self._served.name, message.place)
                delivery.term("it is not stored any more")
                return
            delivery.headers, delivery.payload = stored.headers, stored.payload
            payload = stored.payload
            if self._redrives.letters.is_in_parts(delivery):
                payload = await self._redrives.letters.body(delivery)
        except (ActorError, TimeoutError) as error:
            logger.warning("%s: a handed-on event cannot be read now: %s", self._served.name, error)
            delivery.nak(self._served.options.retry.longest)
            return
        self._admit(entry, stored.headers, payload)

    def _admit(self, entry: "_Entry", headers: bytes | None, payload: bytes) -> None:
        message, handler = entry.message, self._handlers[entry.place.handler]
        reactions, route = self._route(message, handler)
        entry.exits = reactions.exits
        delivery = entry.delivery(headers, payload)
        event, payload, unreadable = opened(delivery)
        trial = Trial(None if message.used < 0 else message.used + 1, entry) if message.watched else None
        work = reactions.make_work(route, handler, Completion(delivery, 1), trial, event)
        work.id, work.key, work.timer = message.id, message.key, message.timer
        work.fingerprint, work.id_from_delivery = message.fingerprint, message.id_from_delivery
        if reactions.is_exhausted(work, trial):
            return
        try:
            if unreadable is not None:
                raise unreadable
            work.payload = payload
            work.message = handler.codec.decode(payload)
        except (CodecError, *UNDECODABLE) as error:
            self._turns.spawn(reactions.give_up(work, CodecError(f"{reactions.subject_of(delivery)}: {error}")))
        except BaseException as error:  # noqa: BLE001 - the types of a message may run code of the application
            reactions.unreadable(work, error)
        else:
            self._turns.admit(work, forced=True)

    def _route(self, message: HandedOn, handler: Handler) -> tuple[Reactions, EventRoute]:
        """Return what handles messages of a stream, and the route of a handler."""
        stream = message.place.stream
        if stream == self._redrives.stream:
            return self._redrives, self._redrives.route_of(handler)
        reactions = self._reactions.get((stream, message.durable))
        if reactions is None:
            reactions = Reactions(self._served, self._turns, stream, message.durable)
            self._reactions[stream, message.durable] = reactions
        place = (stream, message.durable, handler.name)
        route = self._routes.get(place)
        if route is None:
            name, subject = event_subject(handler.contract, self._served.namespace)
            route = reactions.make_route(name, [handler], f"{subject}.{{key}}", message.durable)
            self._routes[place] = route
        return reactions, route


class _Entry:
    """One event that was handed on: the owner of its delivery, and the gate of a watched one."""

    def __init__(self, events: HandedOnEvents, message: HandedOn) -> None:
        self.message = message
        self.place = message.place
        self.exits: dict[int, int] = {}
        """The attempts of events that have asked for the end of the process; see `Reactions.exits`."""
        self._events = events
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
            self._events.answer(reply, self._end)
            self._forget()
            return
        self._reply = reply
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._events.tick, self._tick)
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
            self._events.answer(self._reply, self._end)
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
        key, turns = work.lane, self._events._turns
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
            await self._events._turns.keys.ensure_loaded(key)
        except ActorError:
            return False  # The turn answers the failure.
        return key.find(work.id) is not None

    async def _confirm(self) -> None:
        """Return when whoever hands the event on knows that it runs, or does not ask any more."""
        self._confirmed, self._told = asyncio.get_running_loop().create_future(), False
        if self._reply:
            self._tell_ready()
        try:
            async with asyncio.timeout(self._events.confirm):
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
        self._events.answer(reply, answer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget(self) -> None:
        self._stop_timer()
        self._events.forget(self)


def _delay(text: bytes) -> float:
    """Return the seconds of a negative acknowledgement with a delay."""
    if not text:
        return 0.0
    return msgspec.json.decode(text, type=dict[str, float]).get("delay", 0.0) / 1e9
