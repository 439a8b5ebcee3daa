"""An event, a fired timer or a redriven dead letter on its way through the turns of its handlers."""

import logging
import random
import time
from collections.abc import Coroutine
from typing import Any, Protocol

import msgspec
from opentelemetry.trace import Span

from runtime.actor.handler import Handler
from runtime.clocks import is_duration
from runtime.errors import (
    ActorError,
    CircuitOpen,
    CodecError,
    DeclarationError,
    IdReused,
    InvalidValue,
    NotDelivered,
    Rejected,
    Retry,
    TooLarge,
)
from runtime.faults import error_text, log_fault
from runtime.nats.jetstream.delivery import Delivery
from runtime.options import Options
from runtime.storage.record import Unreadable
from runtime.telemetry import Counter, Durations, Template, finish
from runtime.turns.work import Rerun, Work
from runtime.wire.replies import is_internal
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.intake")

_now = time.time_ns

PERMANENT = (DeclarationError, CodecError)
"""Errors that a retry does not cure, unless the retry policy classifies them otherwise. Those in `_OWN_PERMANENT` belong to
them if they are of this actor itself; if one is the answer to a nested command, a retry may succeed. `InvalidValue` is not permanent: what a handler leaves may
depend on the time or on the reply of another actor."""

_OWN_PERMANENT = (Rejected, IdReused, TooLarge)
"""See `PERMANENT`."""


_SHORTEST_WAIT = 0.01
"""Seconds: the least pause before the next look for a service. The delays of a policy may be 0, and these attempts are many."""


class EventRoute:
    """The handlers of one message type, with the span template and the durations that they share.

    Args:
        name: The name of the event or command, for logs and dead letters.
        handlers: The handlers. Those of an event may have patterns.
        template: The template of the consumer spans.
        durations: The durations of handled messages, for metrics.
        consumed: Counts the deliveries.
    """

    __slots__ = ("asks", "consumed", "durations", "filtered", "handlers", "name", "receive", "template")

    def __init__(
        self, name: str, handlers: list[Handler], template: Template, durations: Durations, consumed: Counter
    ) -> None:
        self.name = name
        self.handlers = handlers
        self.filtered = any(handler.matches is not None for handler in handlers)
        self.asks = any(handler.wanted is not None for handler in handlers)
        self.template = template
        self.receive = template.receive
        self.durations = durations
        self.consumed = consumed


class Completion:
    """Acknowledges a delivery when all handlers that received it have finished. Subclasses clean up after that.

    Args:
        delivery: The delivery.
        handlers: The number of handlers that receive it.
    """

    __slots__ = ("_unfinished", "delivery")

    def __init__(self, delivery: Delivery, handlers: int) -> None:
        self.delivery = delivery
        self._unfinished = handlers

    def done(self) -> None:
        """Count a handler that has handled the message."""
        self._unfinished -= 1
        if not self._unfinished:
            self.delivery.ack()

    def give_back(self) -> None:
        """Give the message back to the server: this process stops."""
        self.delivery.nak()

    def dead_lettered(self, reason: str) -> None:
        """Count a handler that has given the message up. Its dead letter is stored and acknowledged."""
        self._unfinished -= 1
        if not self._unfinished:
            self.delivery.term(reason)


class Gate(Protocol):
    """Decides when the turn of an event may run, after a death: `Watch`."""

    def run(self, work: "EventWork") -> Coroutine[Any, Any, None]:
        """Run the turn of an event, now or later."""
        ...

    def ended(self, work: "EventWork") -> None:
        """The turn of an event has ended, well or badly, or the event was given back."""
        ...


class Trial(msgspec.Struct, frozen=True):
    """How a delivery runs that was in hand when a process died."""

    attempt: int | None = None
    """The number of this attempt if the event is a suspect. A handler that allows fewer attempts does not run: the event
    becomes its dead letter. None for any other event, whose attempts are the server's count of deliveries."""
    gate: Gate | None = None
    """Decides when its turns run; None if they need not wait."""


class Reacts(Protocol):
    """The part of `Reactions` that its messages use. It is a protocol, since `reactions` imports this module."""

    names: Names
    options: Options
    stream: str
    durable: str
    keyed: bool
    handled: int
    """The number of messages that were handled successfully."""
    exits: dict[int, int]
    """The events that have asked for the end of the process: the attempts of each, by stream sequence."""

    def span(self, route: EventRoute, delivery: Delivery, block: bytes | None) -> Span:
        """Start the span of one attempt. `block` has the trace of the event."""
        ...

    def read(self, work: "EventWork") -> Any:
        """Return the message of a delivery, decoded from `EventWork.payload`."""
        ...

    async def dead_letter(self, work: "EventWork", error: BaseException) -> bool:
        """Store a dead letter, and terminate its original. Return False if it is not acknowledged."""
        ...


class EventWork(Work, kw_only=True, eq=False):
    """A delivery on its way through a turn of one handler. The end of the turn finishes or retries the delivery."""

    reactions: Reacts
    route: EventRoute
    completion: Completion
    received_ns: int
    """Unix nanoseconds at which the delivery was received."""
    payload: bytes = b""
    """The JSON of the message."""
    id_from_delivery: bool = False
    """True if the id was derived from this delivery. Its stream time is then the earliest time of a first handling."""
    unserved: int = 0
    """The last attempts in a row that ended because no process served a request of the handler. They do not count."""
    unserved_since: float = 0.0
    """Monotonic seconds at the end of the first of them."""
    timer: str = ""
    """The name of the timer; for a long job it is the caller's id. Empty for an event."""
    fired_at: float | None = None
    """The time for which a timer has fired, in Unix seconds; None for an event."""

    @property
    def label(self) -> str:
        """The message in log lines: its name, the id that its sender knows, and the key."""
        key = f" of key {self.key!r}" if self.key else ""
        return f"{self.route.name} {self.timer or self.id}{key}"

    @property
    def sent_at(self) -> float | None:
        """Unix seconds at which the event was stored; None if its id is not derived from this delivery."""
        return self.completion.delivery.time if self.id_from_delivery else None

    @property
    def due(self) -> float | None:
        """The time for which a timer has fired, in Unix seconds; None for an event."""
        return self.fired_at

    def decode_again(self) -> Any:
        """Return the message as it was received."""
        return self.reactions.read(self)

    def succeeded(self, reply: msgspec.Raw, repeated: bool) -> None:
        """Finish the delivery for this handler, and record the duration."""
        if repeated and self.span.is_recording():
            self.span.add_event("turn.repeated", {"actorloom.message.id": self.id})
        ended = _now()
        self.span.end(ended)
        self.route.durations.record(ended - self.received_ns)
        self.completion.done()
        self.reactions.handled += 1

    async def failed(self, error: BaseException) -> Rerun | None:
        """Retry the event, or make it a dead letter if the error is permanent or its attempts are exhausted (ADR 004).

        If no process serves a request of the handler, the event waits for one, up to `RetryPolicy.unserved` seconds. It waits
        in memory, since the server would count each further delivery as an attempt.

        Returns: A `Rerun` if the event keeps its place and runs again there. An actor with state retries in this way, to
            keep the order of the key. None if the event has ended, or was given back to the server for a later
            delivery.
        """
        taken = _now() - self.received_ns
        self.route.durations.record_error(taken, None, type(error).__name__)
        finish(self.span, None, type(error).__name__, error_text(error))
        if isinstance(error, SystemExit | KeyboardInterrupt):
            self.reactions.exits[self.completion.delivery.stream_sequence] = self.attempt
        permanent = self.reactions.options.retry.is_permanent(error)
        if permanent is None:
            permanent = isinstance(error, PERMANENT) and not isinstance(error, InvalidValue)
            permanent |= isinstance(error, _OWN_PERMANENT) and not error.remote and _time_to_retry(error) is None
        if isinstance(error, NotDelivered) and not isinstance(error, Unreadable) and not permanent:
            if isinstance(error, CircuitOpen) and error.__cause__ is not None:
                error = error.__cause__  # the failure that opened the circuit
            if self._may_wait():
                return self._wait(error)
        elif not permanent and self.attempt < self.attempts:
            return self._retry(error)
        if not await self.reactions.dead_letter(self, error):
            # An event is never lost: it stays until its dead letter is acknowledged.
            return self._retry(error)
        return None

    def overrun(self, reason: str) -> Exception:
        """Return the failure of this attempt if its handler is cut. A retry policy names it `TimeoutError`."""
        return TimeoutError(f"{self.handler.name} was cut at {reason}")

    def take_over(self, newer: "EventWork") -> None:
        """Become a newer message, which runs in this place of the lane. The message so far ends without a run."""
        if self.span.is_recording():
            self.span.add_event("timer.superseded", {"actorloom.message.id": newer.id})
        self.span.end()
        self.completion.done()
        for field in (
            "handler",
            "message",
            "span",
            "block",
            "id",
            "fingerprint",
            "attempt",
            "attempts",
            "route",
            "completion",
            "fired_at",
            "received_ns",
            "payload",
        ):
            setattr(self, field, getattr(newer, field))

    def park(self) -> bool:
        """Park the delivery behind a failing event of its key, so that others are fetched. Return True if parked."""
        return self.completion.delivery.park()

    def abandon(self) -> None:
        """Give the event back to the server: this process stops."""
        self.span.end()
        self.completion.give_back()

    def _may_wait(self) -> bool:
        """Return whether the event may wait for a service, after another attempt that found none."""
        now = time.monotonic()
        if not self.unserved:
            self.unserved_since = now
        return now - self.unserved_since < self.reactions.options.retry.unserved

    def _wait(self, error: BaseException) -> Rerun:
        """Prepare another attempt that is none of the counted ones."""
        self.unserved += 1
        delay = max(self.reactions.options.retry.delay(self.unserved, random.random()), _SHORTEST_WAIT)
        # One line for each event that waits, not one for each attempt.
        logger.log(
            logging.WARNING if self.unserved == 1 else logging.DEBUG, "%s: %s waits for a service, next in %.1f s: %s",
            self.reactions.names.actor, self.label, delay, error_text(error),
        )  # fmt: skip
        self.span = self.reactions.span(self.route, self.completion.delivery, self.block)
        return Rerun(delay)

    def _retry(self, error: BaseException) -> Rerun | None:
        """Prepare the next attempt: in the lane, or by a delayed delivery for an actor without state."""
        self.unserved = 0
        delay = self.reactions.options.retry.delay(self.attempt, random.random())
        if (after := _time_to_retry(error)) is not None:
            delay = after
        behind = self.lane.depth if self.lane is not None else 0
        log_fault(
            logger, "%s: attempt %d of %d at %s failed, next in %.1f s%s: %s",
            self.reactions.names.actor, self.attempt, self.attempts, self.label, delay,
            f", {behind} of its key wait behind it" if behind else "", error_text(error),
            error=error if is_internal(error) and not isinstance(error, ActorError) else None, level=logging.WARNING,
        )  # fmt: skip
        if not self.reactions.keyed:
            self.completion.delivery.nak(delay)
            return None
        self.attempt += 1
        self.span = self.reactions.span(self.route, self.completion.delivery, self.block)
        return Rerun(delay)


def _time_to_retry(error: BaseException) -> float | None:
    """Return the seconds after which a handler wants its next attempt; None if it leaves that to the policy."""
    after = error.after if isinstance(error, Retry) else error.retry_after if isinstance(error, Rejected) else None
    return after if after is not None and is_duration(after) else None


class GatedWork(EventWork, kw_only=True, eq=False):
    """An event whose turn runs when its gate lets it run."""

    gate: Gate

    def run(self) -> Coroutine[Any, Any, None]:
        """Run its turn as soon as the gate lets it. Called by a worker."""
        return self.gate.run(self)

    def succeeded(self, reply: msgspec.Raw, repeated: bool) -> None:
        """Finish the delivery for this handler."""
        super().succeeded(reply, repeated)
        self.gate.ended(self)

    async def failed(self, error: BaseException) -> Rerun | None:
        """Retry the event, or make it a dead letter. It does not run while it waits for another attempt."""
        rerun = await super().failed(error)
        self.gate.ended(self)
        return rerun

    def abandon(self) -> None:
        """Give the event back to the server."""
        super().abandon()
        self.gate.ended(self)
