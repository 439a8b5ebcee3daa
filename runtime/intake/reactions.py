"""Reactions: the events of one stream, each with effect once, and in order per key.

A failing event of an actor with state is retried in its lane after a growing delay. The later events of its key wait
behind it, because the server cannot deliver it again in front of them (ADR 004). An actor without state has no order to
keep, and gives a failing event back to the server with that delay. An event that cannot succeed, or whose attempts are
exhausted, becomes a dead letter. The dead letter is stored and acknowledged before the original is terminated, so no
event is lost.
"""

import logging
import time
from typing import Any, Protocol

import msgspec
from opentelemetry.trace import Span, SpanKind
from opentelemetry.util.types import AttributeValue

from runtime.actor.handler import Handler
from runtime.actor.message import Contract
from runtime.errors import ActorError, CodecError
from runtime.faults import error_text, log_fault
from runtime.intake.any_events import read_any
from runtime.intake.event_work import Completion, EventRoute, EventWork, GatedWork, Trial
from runtime.nats.jetstream.delivery import Delivery
from runtime.storage.dead_letters import DeadLetters, Failure
from runtime.telemetry import LeanSpan, finish, semconv
from runtime.turns.failures import failure_of
from runtime.turns.served import Served
from runtime.turns.turn import Turns
from runtime.wire import header_block
from runtime.wire.cloudevents import Structured, opened, received_id
from runtime.wire.codec import UNDECODABLE
from runtime.wire.ids import new_id
from runtime.wire.replies import is_internal
from runtime.wire.subjects import Names, published

logger = logging.getLogger("actorloom.intake")

_now = time.time_ns

_decode_json = msgspec.json.Decoder().decode


class ProcessEnded(ActorError):
    """A process crashed in every attempt that an event has."""


class HandsOn(Protocol):
    """Takes events whose key is in another partition: `HandOn`, which imports this module."""

    def take(self, work: EventWork) -> bool:
        """Take an event, unless its key is in the own partition. Return whether it is taken."""
        ...


class Reactions:
    """Receives the deliveries of one consumer, and puts each into the lanes of its handlers.

    Args:
        served: The actor, its names and clients.
        turns: The turns that run the handlers.
        stream: The stream of the consumer.
        durable: The name of the consumer, for spans and metrics.
    """

    def __init__(self, served: Served, turns: Turns, stream: str, durable: str = "") -> None:
        self.turns = turns
        self.names = served.names
        self.options = served.options
        self.keyed = served.keyed
        self.stream = stream
        self.durable = durable
        self.hand_on: HandsOn | None = None
        """Takes the events whose key is in another partition; None if the keys are one whole."""
        self.handled = 0
        """The number of messages that were handled successfully."""
        self.dead_lettered = 0
        """The number of dead letters."""
        self.exits: dict[int, int] = {}
        """The events that have asked for the end of the process: the attempts of each, by stream sequence."""
        self.letters = DeadLetters(served.jetstream, served.names)
        self._letters_stored = served.tracer.counter(semconv.DEAD_LETTERS_STORED, {})
        self._jetstream = served.jetstream
        self._exit = served.exit
        self._tracer = served.tracer
        self._traced = served.tracer.tracing.records
        self._attempts = served.options.retry.attempts
        self._routes: dict[bytes | str, EventRoute] = {}
        self._takes_all: list[Handler] = []
        self._actor = served.actor

    def add_all(self, handlers: list[Handler]) -> None:
        """Handle events of any type with `handlers`, which are reactions to `AnyEvent`."""
        self._takes_all = handlers

    def add(self, subject: str, name: str, handlers: list[Handler]) -> None:
        """Handle messages on ``<subject>.<key>`` with `handlers`. Logs and dead letters call these messages `name`."""
        self._routes[subject.encode()] = self.make_route(name, handlers, f"{subject}.{{key}}", self.durable)

    def make_route(
        self, name: str, handlers: list[Handler], template: str, durable: str, command: str | None = None
    ) -> EventRoute:
        """Return the route of a message type, with its span template and its metrics.

        Args:
            name: The name of the event or command, for logs and dead letters.
            handlers: Its handlers.
            template: The subject with a placeholder for each variable token.
            durable: The name of the consumer.
            command: The command that a timer sends; None for other messages.
        """
        server = self._jetstream.connection.server_address
        attributes = semconv.process_attributes(template, durable=durable, stream=self.stream, server=server)
        own = {} if command is None else {semconv.COMMAND: command}
        return EventRoute(
            name,
            handlers,
            self._tracer.template(f"process {template}", SpanKind.CONSUMER, {**attributes, **own}),
            self._tracer.durations(semconv.MESSAGING_PROCESS_DURATION, attributes),
            self._tracer.counter(semconv.MESSAGING_CLIENT_CONSUMED_MESSAGES, attributes),
        )

    def make_work(
        self,
        route: EventRoute,
        handler: Handler,
        completion: Completion,
        trial: Trial | None,
        event: Structured | None = None,
    ) -> EventWork:
        """Return the work of a delivery for one handler. The caller sets its id, message and key."""
        delivery = completion.delivery
        block = delivery.headers if event is None else event.block(delivery.headers)
        span = self.span(route, delivery, block) if self._traced else route.receive(block)
        attempt = delivery.delivered or 1
        attempts = handler.attempts or self._attempts
        received_ns = span.started if type(span) is LeanSpan else _now()
        if trial is not None:
            attempt = trial.attempt or attempt
            if trial.gate is not None:
                return GatedWork(
                    handler, None, span, block, attempt=attempt, attempts=attempts, reactions=self, route=route,
                    completion=completion, received_ns=received_ns, gate=trial.gate,
                )  # fmt: skip
        return EventWork(
            handler, None, span, block, attempt=attempt, attempts=attempts, reactions=self, route=route,
            completion=completion, received_ns=received_ns,
        )  # fmt: skip

    def span(self, route: EventRoute, delivery: Delivery, block: bytes | None) -> Span:
        """Start the span of one attempt. `block` has the trace of the event."""
        if not self._traced:
            return route.receive(block)
        attributes: dict[str, AttributeValue] = {
            semconv.MESSAGING_DESTINATION_NAME: self.subject_of(delivery),
            semconv.MESSAGING_MESSAGE_ID: header_block.get(delivery.headers, header_block.EVENT_ID) or "",
            semconv.STREAM_SEQUENCE: delivery.stream_sequence,
            semconv.DELIVERY_COUNT: delivery.delivered,
        }
        return route.template.receive(block, attributes)

    def deliver(self, delivery: Delivery, trial: Trial | None = None) -> None:
        """Put a delivery into the lanes of the handlers whose patterns it matches. Never raises.

        Args:
            delivery: A delivery from the puller, from `Watch` or from `PoisonCandidates`.
            trial: How it runs, if it was in hand when a process died.
        """
        subject = delivery.subject.rsplit(b".", 2)[0]
        route = self._routes.get(subject) or self._route_of_any(subject)
        if route is None:
            delivery.ack()  # This version does not react to this type of event.
            return
        event, payload, undecodable = opened(delivery.headers, delivery.payload)
        handlers = route.handlers
        if route.filtered and undecodable is None:
            handlers, undecodable = _matching(route, payload)
        event_id = received_id(delivery.headers, event)
        if id_from_delivery := event_id is None:
            event_id = f"{self.stream}:{delivery.stream_sequence}"
        if route.asks and undecodable is None:
            handlers = [each for each in handlers if self._wants(each, delivery, event_id, payload)]
        if not handlers:
            delivery.ack()
            return
        route.consumed.value += 1
        completion = Completion(delivery, len(handlers))
        for handler in handlers:
            work = self.make_work(route, handler, completion, trial, event)
            work.id = event_id + handler.id_suffix
            work.fingerprint = handler.fingerprint
            work.id_from_delivery = id_from_delivery
            if trial is not None and self.is_exhausted(work, trial):
                continue
            try:
                if undecodable is not None:
                    raise undecodable
                work.payload = payload
                work.message = self.read(work)
            except (CodecError, *UNDECODABLE) as error:
                # Each reaction gets a dead letter of its own, since a dead letter is redriven to one reaction only.
                self.turns.spawn(self.give_up(work, CodecError(f"{self.subject_of(delivery)}: {error}")))
                continue
            except BaseException as error:  # noqa: BLE001 - the types of a message may run code of the application
                self.unreadable(work, error)
                continue
            self.admit(work)

    def read(self, work: EventWork) -> Any:
        """Return the message of a delivery, decoded from `EventWork.payload`. Raises `CodecError`, or one of `UNDECODABLE`."""
        handler = work.handler
        if not handler.takes_all:
            return handler.codec.decode(work.payload)
        delivery, event_id = work.completion.delivery, work.id.removesuffix(handler.id_suffix)
        return read_any(delivery, event_id, work.payload, self.origin(delivery))

    def _route_of_any(self, subject: bytes) -> EventRoute | None:
        """Return the route of the reactions to events of any type for one type, which is made for its first event."""
        if not self._takes_all:
            return None
        text = subject.decode("utf-8", "backslashreplace")
        route = self.make_route(text.rpartition(".")[2], self._takes_all, f"{text}.{{key}}", self.durable)
        self._routes[subject] = route
        return route

    def _wants(self, handler: Handler, delivery: Delivery, event_id: str, payload: bytes) -> bool:
        """Return whether the function of a reaction wants an event. One that cannot be read goes to the reaction, too."""
        if handler.wanted is None:
            return True
        try:
            if handler.takes_all:
                event: Any = read_any(delivery, event_id, payload, self.origin(delivery))
            else:
                event = handler.codec.decode(payload)
            return bool(handler.wanted(self._actor, event))
        except Exception:  # noqa: BLE001 - code of the application; the handler meets the same fault, and its turn reports it
            return True

    def admit(self, work: EventWork) -> None:
        """Read the key of `work`, and put it into its lane. It becomes a dead letter if no subject can hold the key."""
        try:
            if work.handler.key_of is not None and not work.key:
                work.key = work.handler.key_of(work.message)
            if self.hand_on is None or not self.hand_on.take(work):
                self.turns.admit(work, forced=True)
        except CodecError as error:
            self.turns.spawn(self.give_up(work, error))

    def is_exhausted(self, work: EventWork, trial: Trial | None) -> bool:
        """Make a message a dead letter that has ended its process in each of its attempts. Return whether it has.

        Called before its types run: reading it may have ended the process.
        """
        if trial is None or trial.attempt is None or trial.attempt <= work.attempts:
            return False
        work.attempt = trial.attempt - 1  # This attempt does not run.
        error = ProcessEnded(f"its process ended {work.attempt} times before it was done")
        self.turns.spawn(self.give_up(work, error))
        return True

    def attempts(self) -> tuple[int, int]:
        """Return the smallest and the largest number of attempts that a handler allows."""
        handlers = [*self._takes_all, *(handler for route in self._routes.values() for handler in route.handlers)]
        own = {handler.attempts for handler in handlers}
        allowed = [attempts or self.options.retry.attempts for attempts in own]
        return min(allowed), max(allowed)

    def unreadable(self, work: EventWork, error: BaseException) -> None:
        """Make a message a dead letter whose types raised an exception of the application: a `__post_init__`, say."""
        self.turns.spawn(self.give_up(work, failure_of(error, self._exit) or error))

    async def give_up(self, work: EventWork, error: BaseException) -> None:
        """Make a message that cannot run a dead letter. Give it back for later if the dead letter is not stored."""
        finish(work.span, None, type(error).__name__, error_text(error))
        if not await self.dead_letter(work, error):
            work.completion.delivery.nak(self.options.retry.longest)

    def origin(self, delivery: Delivery) -> tuple[str, str, int]:
        """Return the subject, stream and sequence of the message that was first delivered to this actor."""
        return self.subject_of(delivery), self.stream, delivery.stream_sequence

    def subject_of(self, delivery: Delivery) -> str:
        """Return the subject on which a delivered message was published."""
        return published(stored_subject(delivery))

    def count_dead_letter(self) -> None:
        """Count a dead letter that is stored."""
        self.dead_lettered += 1
        self._letters_stored.value += 1

    async def dead_letter(self, work: EventWork, error: BaseException) -> bool:
        """Store a dead letter, and then terminate its original. Return False if the dead letter is not acknowledged.

        After a hand-over, the successor has the message as well. It runs it, and decides.
        """
        if self.turns.handed_over:
            return False
        delivery = work.completion.delivery
        subject, stream, sequence = self.origin(delivery)
        reason = " ".join(f"{type(error).__name__}: {error_text(error)}".split())
        failure = Failure(reason, work.attempt, subject, stream, sequence, work.handler.name, work.id or new_id())
        if not await self.letters.store(self.stream, delivery, work.route.name, failure):
            return False
        log_fault(
            logger, "%s: %s is a dead letter after %d attempt%s: %s",
            self.names.actor, work.label, work.attempt, "" if work.attempt == 1 else "s", reason,
            error=error if is_internal(error) and not isinstance(error, ActorError) else None,
        )  # fmt: skip
        self.count_dead_letter()
        work.completion.dead_lettered(f"dead letter: {type(error).__name__}")
        return True


def _matching(route: EventRoute, payload: bytes) -> tuple[list[Handler], Exception | None]:
    """Return the handlers whose patterns an event matches; all of them, with the error, if the event is not JSON."""
    try:
        body = _decode_json(payload)
        return [handler for handler in route.handlers if handler.matches is None or handler.matches(body)], None
    except UNDECODABLE as error:
        return route.handlers, error


def stored_subject(delivery: Delivery) -> str:
    """Return the subject under which a delivered message is stored."""
    return delivery.subject.decode("utf-8", "backslashreplace")


def event_subject(contract: Contract, namespace: str, source: str) -> tuple[str, str]:
    """Return the name of an event of the actor `source` on the wire, and its subject without the key.

    Of `AnyEvent`, the name is ``*``.
    """
    return contract.name, Names(source, namespace).events(contract.name)
