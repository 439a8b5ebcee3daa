"""The messages of outbox entries: subject, headers and span of an event or a timer."""

from opentelemetry.trace import SpanKind

from runtime.storage.record import EVENT, Outgoing
from runtime.storage.schedules import timer_message
from runtime.telemetry import NO_SPAN, LeanSpan, PropagatedSpan, ServiceTracer, Template, baggage_line, semconv
from runtime.wire import header_block
from runtime.wire.cloudevents import event_headers
from runtime.wire.subjects import Names, snake_case


class OutboxMessages:
    """Makes the messages of one actor type.

    Args:
        names: The names of the actor.
        tracer: The tracer of the actor.
    """

    def __init__(self, names: Names, tracer: ServiceTracer) -> None:
        self._names = names
        self._tracer = tracer
        self._event_templates: dict[str, Template] = {}
        self._timer_templates: dict[str, Template] = {}

    def start_span(self, entry: Outgoing) -> tuple[LeanSpan | PropagatedSpan, bytes]:
        """Start the span of a publish, whose parent is the turn that emitted the entry.

        Returns:
            The span, and the header lines that carry the trace context to the receiver.
        """
        template = self._template(entry)
        if not entry.trace and not template.records:
            return NO_SPAN, b""
        block = header_block.join(entry.trace.encode())
        span = template.receive(block, {semconv.MESSAGING_MESSAGE_ID: entry.id})
        return span, span.lines() + baggage_line(block)

    def make(self, entry: Outgoing, origin: int, trace: bytes) -> tuple[str, bytes]:
        """Return the subject and the header block of an entry other than `CANCEL`.

        Args:
            entry: The entry.
            origin: The sequence of the record that introduced it.
            trace: The header lines of its trace context.
        """
        if entry.kind is not EVENT:
            return timer_message(self._names, entry, origin, trace)
        subject = self._names.event(snake_case(entry.name), entry.token)
        return subject, event_headers(self._names.actor, entry.name, entry.id, entry.token, entry.time, trace)

    def _template(self, entry: Outgoing) -> Template:
        is_event = entry.kind is EVENT
        templates = self._event_templates if is_event else self._timer_templates
        template = templates.get(entry.name)
        if template is None:
            kind = "event" if is_event else "timer"
            destination = f"{self._names.prefix}{self._names.actor}.{kind}.{snake_case(entry.name)}"
            attributes = semconv.send_attributes(destination)
            template = self._tracer.template(f"publish {destination}", SpanKind.PRODUCER, {**attributes})
            templates[entry.name] = template
        return template
