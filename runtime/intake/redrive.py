"""Redriven dead letters: each goes to the handler that gave it up, under its former id.

A redriven dead letter has a subject of its own (``<actor>.redrive.<event or command>``), so that no other consumer of
the event receives it. It is deleted from the stream once it is handled. If it fails again, it becomes a new dead
letter. An event that `actorloom replay` sends comes in the same way.

The order of the messages is kept, also while the body of one of them is read whose body is stored in parts.
"""

import logging
from collections import deque
from collections.abc import Iterable

import msgspec
from opentelemetry.trace import Span

from runtime.actor.handler import Handler
from runtime.errors import ActorError, CodecError, Forbidden
from runtime.intake.event_work import Completion, EventRoute, EventWork, Trial
from runtime.intake.reactions import Reactions
from runtime.intake.tells import told_key
from runtime.intake.timers import EndOfJob, timer_key
from runtime.nats.jetstream.delivery import Delivery
from runtime.storage.dead_letters import Failure, read_failure
from runtime.telemetry import semconv
from runtime.turns.served import Served
from runtime.turns.turn import Turns
from runtime.wire import header_block
from runtime.wire.cloudevents import opened
from runtime.wire.ids import accept_id
from runtime.wire.subjects import snake_case
from runtime.wire.tokens import readable_key

logger = logging.getLogger("actorloom.intake")


class Redrives(Reactions):
    """Receives the redriven dead letters of an actor, for its reactions and for commands that timers or `tell` sent.

    Args:
        served: The actor, its names and clients.
        turns: The turns that run the handlers.
        handlers: The reactions and commands of the actor.
    """

    def __init__(
        self,
        served: Served,
        turns: Turns,
        handlers: Iterable[Handler],
    ) -> None:
        names = served.names
        super().__init__(served, turns, names.dead_stream, names.redrive_durable)
        self._behind: deque[tuple[Delivery, Trial | None]] | None = None
        """The deliveries that wait while the body of one before them is read; None if none is read."""
        self._aliases: dict[tuple[str, str], EventRoute] = {}
        """By the alias of a reaction and the name of the event: see `Handler.alias`."""
        for handler in handlers:
            name = handler.contract.name
            route = self.make_route(name, [handler], names.redrive(name, "{key}"), names.redrive_durable)
            for former in (handler.name, *map(snake_case, handler.contract.formerly)):
                self._routes[former] = route
            self._aliases[handler.alias, name] = route

    def route_of(self, handler: Handler, name: str) -> EventRoute:
        """Return the route of the redriven dead letters of a handler, which handles an event or command `name`."""
        return self._route_of_one(handler, name) if handler.takes_all else self._routes[handler.name]

    def _route_of_one(self, handler: Handler, name: str) -> EventRoute:
        """Return the route of a reaction to events of any type for those of one type."""
        route = self._aliases.get((handler.name, name))
        if route is None:
            subject = self.names.redrive(name, "{key}")
            route = self._aliases[handler.name, name] = self.make_route(name, [handler], subject, self.durable)
        return route

    def deliver(self, delivery: Delivery, trial: Trial | None = None) -> None:
        """Put a redriven dead letter into the lane of its key. Never raises. Arguments as in `Reactions.deliver`."""
        if self._behind is not None:
            self._behind.append((delivery, trial))
        elif self.letters.is_in_parts(delivery):
            self._behind = deque([(delivery, trial)])
            self.turns.spawn(self._deliver_in_order(self._behind))
        else:
            self._deliver(delivery, trial)

    def _deliver(self, delivery: Delivery, trial: Trial | None) -> None:
        """Put a delivery whose body is complete into the lane of its key."""
        failure = read_failure(delivery.headers)
        route = self._routes.get(failure.reaction) or self._aliases.get((failure.reaction, self._name_of(delivery)))
        if route is None:
            self.turns.spawn(self._unknown_reaction(delivery, failure))
            return
        if route.handlers[0].takes_all:
            route = self._route_of_one(route.handlers[0], self._name_of(delivery))
        route.consumed.value += 1
        handler = route.handlers[0]
        event, payload, unreadable = opened(delivery.headers, delivery.payload)
        completion = _RedriveCompletion(self, delivery)
        work = self.make_work(route, handler, completion, trial, event)
        # `id_from_delivery` stays False: this delivery is younger than the first handling of the message, so its dedup
        # entry must always be looked up.
        accepted = accept_id(failure.id.removesuffix(handler.id_suffix)) is not None
        work.id = failure.id if accepted else f"{self.stream}:{delivery.stream_sequence}"
        work.fingerprint = handler.fingerprint
        if handler.verb == "command":
            command = header_block.get(delivery.headers, header_block.TIMER_COMMAND) or ""
            work.fingerprint = handler.fingerprint_of(f"{self.names.actor}.{command}".encode(), delivery.payload)
        if self.is_exhausted(work, trial):
            return
        try:
            if failure.id and not accepted:
                raise CodecError(f"Dead-Id: {failure.id[:40]!r} is not a valid id")
            if unreadable is not None:
                raise unreadable
            if handler.internal and failure.stream == self.names.tells_stream:
                raise Forbidden(f"{failure.subject}: only timers of {self.names.actor} send this command")
            work.payload = payload
            work.message = self.read(work)
            work.key = self._key(handler, work, failure)
        except (CodecError, Forbidden) as error:
            self.turns.spawn(self.give_up(work, error))
            return
        except BaseException as error:  # noqa: BLE001 - the types of a message may run code of the application
            self.unreadable(work, error)
            return
        if handler.accept:
            if failure.stream != self.names.tells_stream:
                work.timer = readable_key(failure.subject.rpartition(".")[2])
            completion.begin(self.turns.jobs, work)
        self.admit(work)

    async def _deliver_in_order(self, waiting: deque[tuple[Delivery, Trial | None]]) -> None:
        """Deliver what waits, one after another, and read the bodies that are stored in parts."""
        try:
            while waiting:
                delivery, trial = waiting[0]
                if not self.letters.is_in_parts(delivery) or await self._read_body(delivery):
                    self._deliver(delivery, trial)
                waiting.popleft()
        finally:
            self._behind = None
            for delivery, _ in waiting:
                delivery.nak()

    async def _read_body(self, delivery: Delivery) -> bool:
        """Read a body that is stored in parts. Return False if the delivery is given back, since it cannot be read now."""
        try:
            delivery.payload = await self.letters.body(delivery)
        except CodecError as error:
            delivery.payload = b"null"  # it becomes a dead letter again, as a body that no message type has
            logger.error("%s: %s", self.names.actor, error)
        except (ActorError, TimeoutError) as error:
            logger.warning("%s: the body of a redriven dead letter cannot be read now: %s", self.names.actor, error)
            delivery.nak(self.options.retry.longest)
            return False
        return True

    def span(self, route: EventRoute, delivery: Delivery, block: bytes | None) -> Span:
        """Start the span of one attempt. That of a replayed event has the name of the replay."""
        span = super().span(route, delivery, block)
        if span.is_recording() and (replay := header_block.get(delivery.headers, header_block.REPLAY)) is not None:
            span.set_attribute(semconv.REPLAY, replay)
        return span

    def origin(self, delivery: Delivery) -> tuple[str, str, int]:
        """Return the subject, stream and sequence of the original message, not those of the dead letter."""
        failure = read_failure(delivery.headers)
        return failure.subject, failure.stream, failure.sequence

    async def remove(self, delivery: Delivery) -> None:
        """Delete a finished dead letter from the stream. If that fails it stays there, acknowledged."""
        try:
            await self.letters.finish(delivery)
        except (ActorError, TimeoutError) as error:
            logger.warning("%s: a redriven dead letter that is done was not deleted: %s", self.names.actor, error)

    def _key(self, handler: Handler, work: EventWork, failure: Failure) -> str:
        """Return the key of a redriven message. Raises `CodecError` if it has none."""
        if handler.verb == "react":
            return handler.key_of(work.message) if handler.key_of is not None else ""
        if failure.stream == self.names.tells_stream:
            return told_key(handler, work.message, work.id)
        tokens = failure.subject.split(".")  # <actor>.timer.<key>.<name>
        return timer_key(handler, work.message, tokens[-2:-1])

    def _name_of(self, delivery: Delivery) -> str:
        """Return the name of the event or command in a dead letter."""
        return self.subject_of(delivery).split(".")[-2]

    async def _unknown_reaction(self, delivery: Delivery, failure: Failure) -> None:
        """Make a message a dead letter again if this version of the actor does not have its handler."""
        reason = f"this version of {self.names.actor} has no reaction {failure.reaction!r}"
        name = self._name_of(delivery)
        if not await self.letters.store(self.stream, delivery, name, msgspec.structs.replace(failure, reason=reason)):
            delivery.nak(self.options.retry.longest)
            return
        logger.error("%s: %s %s is a dead letter again: %s", self.names.actor, name, failure.id, reason)
        self.count_dead_letter()
        _RedriveCompletion(self, delivery).dead_lettered("dead letter: no such reaction")


class _RemovingCompletion(Completion):
    """Finishes the delivery of a redriven dead letter, and deletes it from the stream."""

    __slots__ = ("_reactions",)

    def __init__(self, reactions: Redrives, delivery: Delivery) -> None:
        super().__init__(delivery, 1)
        self._reactions = reactions

    def done(self) -> None:
        super().done()
        self._reactions.turns.spawn(self._reactions.remove(self.delivery))

    def dead_lettered(self, reason: str) -> None:
        super().dead_lettered(reason)
        self._reactions.turns.spawn(self._reactions.remove(self.delivery))


class _RedriveCompletion(EndOfJob, _RemovingCompletion):
    """Finishes a redriven dead letter. If it is that of a long job, its cancellation is answered."""

    __slots__ = ("_jobs", "_work")

    def __init__(self, reactions: Redrives, delivery: Delivery) -> None:
        super().__init__(reactions, delivery)
        self._jobs = None
