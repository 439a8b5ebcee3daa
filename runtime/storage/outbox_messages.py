"""The messages of outbox entries: subject, headers, span and metrics of an event, a timer or a command by `tell`."""

import time
from typing import NamedTuple

import msgspec
from opentelemetry.trace import Span, SpanKind

from runtime.storage.record import EVENT, TELL, TIMER, Outgoing
from runtime.storage.schedules import timer_headers, timer_subject
from runtime.telemetry import NO_SPAN, LeanSpan, Publishes, ServiceTracer, Template, baggage_line, finish, semconv
from runtime.wire import header_block
from runtime.wire.cloudevents import event_headers
from runtime.wire.subjects import Names, snake_case
from runtime.wire.tells import tell_headers


class OutboxMessages:
    """Makes the messages of one actor type.

    Args:
        names: The names of the actor.
        tracer: The tracer of the actor.
        server: Host and port of the NATS server.
    """

    def __init__(self, names: Names, tracer: ServiceTracer, server: tuple[str, int]) -> None:
        self._names = names
        self._tracer = tracer
        self._server = server
        self._kinds: dict[tuple[str, str, str], _Kind] = {}

    def make(self, entry: Outgoing, origin: int, local: bool) -> "Publish":
        """Return the message of an entry other than `CANCEL`, and start its span, whose parent is the turn.

        Args:
            entry: The entry.
            origin: The sequence of the record that introduced it.
            local: Whether the turn ran in this process.
        """
        kind = self._kinds.get((entry.kind, entry.name, entry.target)) or self._kind(entry)
        names, is_event = self._names, entry.kind is EVENT
        if is_event:
            subject = names.event(kind.name, entry.token)
        elif entry.kind is TELL:
            subject = Names(entry.target, names.namespace).tell(kind.name, entry.token)
        else:
            subject = timer_subject(names, entry)
        span, trace = NO_SPAN, b""
        if entry.trace or kind.template.records:
            block = header_block.join(entry.trace.encode())
            span = kind.template.receive(
                block, {semconv.MESSAGING_MESSAGE_ID: entry.id, semconv.MESSAGING_DESTINATION_NAME: subject}
            )
            if local and type(span) is LeanSpan:
                span.remote = False
            trace = span.lines() + baggage_line(block)
        if is_event:
            headers = event_headers(names.actor, entry.name, entry.id, entry.token, entry.time, trace)
        elif entry.kind is TELL:
            headers = tell_headers(entry.target, entry.name, entry.id, bytes(entry.body), entry.time, trace)
        else:
            headers = timer_headers(names, entry, origin, trace)
        return Publish(subject, headers, span, kind.publishes, time.time_ns())

    def _kind(self, entry: Outgoing) -> "_Kind":
        names, name = self._names, snake_case(entry.name)
        own = {semconv.COMMAND: name}
        if entry.kind is EVENT:
            template, own = names.event(name, "{key}"), {}
        elif entry.kind is TELL:
            template, own = Names(entry.target, names.namespace).tell(name, "{key}"), {}
        elif entry.kind is TIMER:
            template = names.timer("{key}", "{name}")
        else:
            template = names.schedule("{key}", "{name}")
        attributes = semconv.send_attributes(template, self._server)
        spans = self._tracer.template(f"publish {template}", SpanKind.PRODUCER, {**attributes, **own})
        kind = _Kind(name, spans, self._tracer.publishes(attributes))
        self._kinds[entry.kind, entry.name, entry.target] = kind
        return kind


class _Kind(NamedTuple):
    """What the messages of one event, or of the timers or `tell`s of one command, share."""

    name: str
    """The name on the wire."""
    template: Template
    publishes: Publishes


class Publish(msgspec.Struct, eq=False):
    """A message that is being published."""

    subject: str
    headers: bytes
    span: Span
    publishes: Publishes
    started: int
    """Unix nanoseconds."""
    parked: bool = False
    """Whether it is a parked command."""

    def park(self, subject: str, headers: bytes) -> None:
        """Publish it as a parked command."""
        self.subject, self.headers, self.parked = subject, headers, True

    def succeed(self) -> None:
        """End the span and record the duration: the message is stored, or another timer has its name."""
        ended = time.time_ns()
        self.span.end(ended)
        self.publishes.record(ended - self.started)

    def fail(self, error: Exception) -> None:
        """End the span with an error, and record the duration."""
        kind = type(error).__name__
        finish(self.span, None, kind, str(error))
        self.publishes.record_error(time.time_ns() - self.started, None, kind)
