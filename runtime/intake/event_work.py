"""An event, or a timer that fired, on its way through the turns of the handlers that react to it."""

import logging
import random
import time
from typing import Any, Protocol

import msgspec
from opentelemetry.trace import Span

from runtime.actor.handler import Handler
from runtime.errors import ActorError, CodecError, DeclarationError, Rejected, Retry
from runtime.nats.jetstream.delivery import Delivery
from runtime.options import Options
from runtime.telemetry import Durations, Template, finish
from runtime.turns.work import Rerun, Work
from runtime.wire.replies import is_internal
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.intake")

_now = time.time_ns

PERMANENT = (DeclarationError, CodecError)
"""What no further attempt can mend, unless the policy says otherwise; `Rejected` also, where the reaction itself raised it."""


class EventRoute:
    """One event type that this actor reacts to."""

    __slots__ = ("durations", "filtered", "handlers", "name", "receive", "template")

    def __init__(self, name: str, handlers: list[Handler], template: Template, durations: Durations) -> None:
        self.name = name
        self.handlers = handlers
        self.filtered = any(handler.matches is not None for handler in handlers)
        self.template = template
        self.receive = template.receive
        self.durations = durations


class Completion:
    """Finishes a delivery when all handlers that it reached are done with it."""

    __slots__ = ("delivery", "left")

    def __init__(self, delivery: Delivery, left: int) -> None:
        self.delivery = delivery
        self.left = left

    def done(self) -> None:
        """One handler is done."""
        self.left -= 1
        if not self.left:
            self.delivery.ack()

    def dead_lettered(self, reason: str) -> None:
        """One handler has given it up, and its dead letter is acknowledged."""
        self.left -= 1
        if not self.left:
            self.delivery.term(reason)


class Reacts(Protocol):
    """A subscription, as its messages see it."""

    names: Names
    options: Options
    keyed: bool
    handled: int
    """Messages that were handled with success."""

    def span(self, route: EventRoute, delivery: Delivery) -> Span:
        """Start the span of one attempt."""
        ...

    async def dead_letter(self, work: "EventWork", error: BaseException) -> bool:
        """Store a dead letter; return False if it is not acknowledged."""
        ...


class EventWork(Work, kw_only=True, eq=False):
    """An event, or a timer that fired, on its way through a turn of one handler."""

    reactions: Reacts
    route: EventRoute
    completion: Completion
    received_ns: int
    """When it came, in unix nanoseconds."""
    id_from_delivery: bool = False
    """Whether its id is of this delivery alone. Another's id may have been stored before, at another time."""

    @property
    def sent_at(self) -> float | None:
        """When the event was stored, in unix seconds."""
        return self.completion.delivery.time if self.id_from_delivery else None

    def succeeded(self, reply: Any, raw: msgspec.Raw, repeated: bool) -> None:
        """Acknowledge the delivery."""
        if repeated and self.span.is_recording():
            self.span.add_event("turn.repeated", {"actorloom.message.id": self.id})
        ended = _now()
        self.span.end(ended)
        self.route.durations.record(ended - self.received_ns)
        self.completion.done()
        self.reactions.handled += 1

    async def failed(self, error: BaseException) -> Rerun | None:
        """Try again in the lane, give the event back, or make it a dead letter."""
        taken = _now() - self.received_ns
        self.route.durations.record_error(taken, None, type(error).__name__)
        finish(self.span, None, type(error).__name__, str(error))
        permanent = self.reactions.options.retry.is_permanent(error)
        if permanent is None:
            permanent = isinstance(error, PERMANENT) or (isinstance(error, Rejected) and not error.remote)
        if not permanent and self.attempt < self.attempts:
            return self._retry(error)
        if not await self.reactions.dead_letter(self, error):
            # The dead letter is not acknowledged: the original stays until it is.
            return self._retry(error)
        return None

    def park(self) -> bool:
        """Let other events be fetched while this one waits, in memory, behind one that fails."""
        return self.completion.delivery.park()

    def abandon(self) -> None:
        """Give the event back at once: this process stops."""
        self.span.end()
        self.completion.delivery.nak()

    def _retry(self, error: BaseException) -> Rerun | None:
        delay = self.reactions.options.retry.delay(self.attempt, random.random())
        if isinstance(error, Retry) and error.after is not None:
            delay = error.after
        behind = self.lane.depth if self.lane is not None else 0
        logger.warning(
            "%s: attempt %d of %d at %s %s failed, next in %.1f s%s: %s",
            self.reactions.names.actor, self.attempt, self.attempts, self.route.name, self.id, delay,
            f", {behind} of its key wait behind it" if behind else "", error,
            exc_info=error if is_internal(error) and not isinstance(error, ActorError) else None,
        )  # fmt: skip
        if not self.reactions.keyed:
            self.completion.delivery.nak(delay)
            return None
        self.attempt += 1
        self.span = self.reactions.span(self.route, self.completion.delivery)
        return Rerun(delay)
