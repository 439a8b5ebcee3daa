"""Timers that are due: commands of an actor to itself, delivered from its own stream and deleted when they are done."""

import logging

from opentelemetry.trace import SpanKind

from runtime.actor.handler import Handler
from runtime.errors import CodecError, PublishError
from runtime.intake.event_work import Completion, EventRoute
from runtime.intake.reactions import Reactions, subject_of
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.delivery import Delivery
from runtime.storage.streams import TIMERS
from runtime.telemetry import semconv
from runtime.wire import header_block
from runtime.wire.subjects import key_token, token_key

logger = logging.getLogger("actorloom.intake")


class Timers(Reactions):
    """The subscription of an actor to its own timers: commands to itself that are due."""

    def deliver(self, delivery: Delivery, attempt: int | None = None) -> None:
        """Take one timer that fired to its key's lane."""
        rest = subject_of(delivery)[len(self.names.prefix) :].split(".")  # <actor>.timer.<key>.<name>
        kind = header_block.get(delivery.headers, header_block.TIMER_COMMAND) or ""
        route = self._routes.get(kind)
        if route is None:
            self.turns.spawn(self._unknown(delivery, kind))
            return
        work = self.make_work(
            route, route.handlers[0], TimerCompletion(delivery, self._jetstream, self.stream), attempt
        )
        timer_id = header_block.get(delivery.headers, header_block.IDEMPOTENCY_KEY) or self.stream
        recurring = header_block.get(delivery.headers, header_block.TIMER_RECURRING) is not None
        work.id_from_delivery = recurring or timer_id == self.stream
        work.id = f"{timer_id}:{delivery.stream_sequence}" if work.id_from_delivery else timer_id
        try:
            key_token(work.id)  # the subject of its dedup entry must hold it
            work.key = token_key(rest[2]) if self.keyed else ""
            work.message = work.handler.codec.decode(delivery.payload)
            self.run(work, attempt)
        except CodecError as error:
            self.turns.spawn(self.give_up(work, error))

    def add_command(self, handler: Handler) -> None:
        """Let timers send `handler`'s command."""
        name = handler.contract.name
        subject = f"{self.names.prefix}{self.names.actor}.timer.{name}"
        attributes = semconv.process_attributes(subject, durable=TIMERS, stream=self.stream)
        template = self._tracer.template(f"process {subject}", SpanKind.CONSUMER, attributes)
        self._routes[handler.contract.type.__name__] = EventRoute(
            name, [handler], template, self._durations(attributes)
        )

    async def _unknown(self, delivery: Delivery, kind: str) -> None:
        logger.error("%s: a timer for %r, which this version does not handle", self.names.actor, kind)
        delivery.nak(self.options.retry.longest)


class TimerCompletion(Completion):
    """Also deletes a timer that is done with: it is nobody else's, and would lie in the actor's own stream for ever."""

    __slots__ = ("_jetstream", "_stream")

    def __init__(self, delivery: Delivery, jetstream: JetStream, stream: str) -> None:
        super().__init__(delivery, 1)
        self._jetstream = jetstream
        self._stream = stream

    def done(self) -> None:
        """It was handled."""
        super().done()
        self._delete()

    def dead_lettered(self, reason: str) -> None:
        """It is a dead letter."""
        super().dead_lettered(reason)
        self._delete()

    def _delete(self) -> None:
        try:
            self._jetstream.delete_message_nowait(self._stream, self.delivery.stream_sequence)
        except PublishError as error:
            # It comes again, since its acknowledgement was not sent either, and is deleted then.
            logger.info("a timer that was handled is still stored: %s", error)
