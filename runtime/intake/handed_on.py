"""Handed-on events: those of other partitions that act on a key of this one. `runtime.intake.hand_on` sends them.

An event that arrives is put into the lane of its key, and is then like an event of an own consumer. Its end is the answer to
whoever asks for it then. A question about an event that is in hand is answered after a moment, if it does not end before. An
event that comes again while it is in hand joins it, so repetitions do not pile up.
"""

import logging

import msgspec

from runtime.actor.handler import Handler
from runtime.errors import ActorError, CodecError, PublishError
from runtime.intake.endpoint import inboxes
from runtime.intake.event_work import Completion, EventRoute, Trial
from runtime.intake.handed_event import HandedEvent
from runtime.intake.reactions import Reactions
from runtime.intake.redrive import Redrives
from runtime.turns.served import Served
from runtime.turns.turn import Turns
from runtime.wire.buckets import partition_of
from runtime.wire.cloudevents import opened
from runtime.wire.codec import UNDECODABLE
from runtime.wire.hand_on import Answer, HandedOn, Place, Status, encode, read_handed_on
from runtime.wire.subjects import published
from runtime.wire.tokens import key_token

logger = logging.getLogger("actorloom.intake")

_TICK = 0.25
"""The fraction of a lease after which a question is answered about an event that is still in hand."""
_CONFIRM = 1.5
"""The fraction of a lease for which a watched event waits until whoever hands it on knows that it runs."""


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
        self.turns = turns
        """Run the handlers."""
        self._served = served
        self._in_hand: dict[Place, HandedEvent] = {}
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
        event = self._in_hand.get(message.place)
        if event is not None:
            event.ask(reply)
        elif not message.id:
            self.answer(reply, Answer(Status.UNKNOWN))
        elif refusal := self._refusal(message):
            self.answer(reply, Answer(Status.REFUSED, text=f"{subject.decode()}: {refusal}"))
        else:
            event = self._in_hand[message.place] = HandedEvent(self, message)
            event.ask(reply)
            self._begin(event)

    def answer(self, reply: bytes, answer: Answer) -> None:
        """Send an answer. If it cannot be sent, the other owner asks again."""
        if answer.status is Status.BUSY and self.leaving:
            answer = msgspec.structs.replace(answer, status=Status.LEAVING, running=False)
        answer = msgspec.structs.replace(answer, holder=self._served.holder, ownership=self._ownership)
        try:
            self._served.connection.respond(reply, encode(answer))
        except PublishError as error:
            logger.info("%s: an answer about a handed-on event is not sent: %s", self._served.name, error)

    def forget(self, event: HandedEvent) -> None:
        """Forget an event that has ended."""
        self._in_hand.pop(event.place, None)

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

    def _begin(self, event: HandedEvent) -> None:
        """Put an event into the lane of its key, or read it from its stream before."""
        message = event.message
        if message.payload is None:
            self.turns.spawn(self._load(event))
        else:
            self._admit(event, message.headers, message.payload)

    async def _load(self, event: HandedEvent) -> None:
        """Read an event that was sent without its body. A dead letter in parts is read with its parts."""
        message = event.message
        delivery = event.delivery(None, b"")
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
        except CodecError as error:
            payload = b"null"  # It becomes a dead letter again, as a body that no message type has.
            logger.error("%s: %s", self._served.name, error)
        except (ActorError, TimeoutError) as error:
            logger.warning("%s: a handed-on event cannot be read now: %s", self._served.name, error)
            delivery.nak(self._served.options.retry.longest)
            return
        self._admit(event, delivery.headers, payload)

    def _admit(self, event: HandedEvent, headers: bytes | None, payload: bytes) -> None:
        message, handler = event.message, self._handlers[event.place.handler]
        reactions, route = self._route(message, handler)
        event.exits = reactions.exits
        delivery = event.delivery(headers, payload)
        structured, payload, unreadable = opened(delivery.headers, delivery.payload)
        trial = Trial(None if message.used < 0 else message.used + 1, event) if message.watched else None
        work = reactions.make_work(route, handler, Completion(delivery, 1), trial, structured)
        work.id, work.key, work.timer = message.id, message.key, message.timer
        work.fingerprint, work.id_from_delivery = message.fingerprint, message.id_from_delivery
        if reactions.is_exhausted(work, trial):
            return
        try:
            if unreadable is not None:
                raise unreadable
            work.payload = payload
            work.message = reactions.read(work)
        except (CodecError, *UNDECODABLE) as error:
            self.turns.spawn(reactions.give_up(work, CodecError(f"{reactions.subject_of(delivery)}: {error}")))
        except BaseException as error:  # noqa: BLE001 - the types of a message may run code of the application
            reactions.unreadable(work, error)
        else:
            self.turns.admit(work, forced=True)

    def _route(self, message: HandedOn, handler: Handler) -> tuple[Reactions, EventRoute]:
        """Return what handles messages of a stream, and the route of a handler."""
        stream = message.place.stream
        if stream == self._redrives.stream:
            return self._redrives, self._redrives.route_of(handler, message.subject.decode().split(".")[-3])
        reactions = self._reactions.get((stream, message.durable))
        if reactions is None:
            reactions = Reactions(self._served, self.turns, stream, message.durable)
            self._reactions[stream, message.durable] = reactions
        subject = published(message.subject.decode("utf-8", "backslashreplace")).rpartition(".")[0]
        place = (stream, message.durable, f"{handler.name} {subject}")
        route = self._routes.get(place)
        if route is None:
            route = reactions.make_route(subject.rpartition(".")[2], [handler], f"{subject}.{{key}}", message.durable)
            self._routes[place] = route
        return reactions, route
