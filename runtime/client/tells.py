"""`Bus.tell`: a command is stored in the stream of its actor, and the sender does not wait until it has run."""

import time

from opentelemetry.trace import SpanKind

from runtime.actor.call import check_tell, told_token
from runtime.actor.message import Command, Contract, contract_of, encode_message
from runtime.errors import PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.telemetry import Publishes, ServiceTracer, Template, finish, inject, semconv
from runtime.wire.ids import check_id, new_id
from runtime.wire.subjects import Names
from runtime.wire.tells import tell_headers
from runtime.wire.tokens import NO_KEY


class Tells:
    """Stores commands in the streams of their actors.

    Args:
        jetstream: The client.
        tracer: The tracer of the program.
        namespace: The namespace of the actors.
    """

    def __init__(self, jetstream: JetStream, tracer: ServiceTracer, namespace: str) -> None:
        self._jetstream = jetstream
        self._tracer = tracer
        self._namespace = namespace
        self._kinds: dict[Contract, tuple[Template, Publishes]] = {}

    async def tell(self, message: Command[object], id: str | None, after: float, timeout: float) -> str:
        """Store a command, and return its id. Arguments and errors are those of `Bus.tell`.

        `timeout` is in seconds.
        """
        check_tell(message, after)
        contract, clock = contract_of(message), self._jetstream.connection.clock
        now = clock.now()
        tell_id = new_id(now) if id is None else check_id(id)
        body = encode_message(message)
        names = Names(contract.actor, self._namespace)
        subject = names.tell(contract.name, told_token(message, tell_id) or NO_KEY)
        template, publishes = self._kinds.get(contract) or self._kind(contract)
        span = template.child({semconv.MESSAGING_MESSAGE_ID: tell_id, semconv.MESSAGING_DESTINATION_NAME: subject})
        headers = tell_headers(
            contract.actor,
            contract.class_name,
            tell_id,
            body,
            now + clock.ahead + after if after else 0.0,
            inject(span),
        )
        started = time.time_ns()
        try:
            await self._jetstream.publish(subject, body, headers=headers, timeout=timeout)
        except (PublishError, TimeoutError) as error:
            kind = type(error).__name__
            finish(span, None, kind, str(error))
            publishes.record_error(time.time_ns() - started, None, kind)
            raise
        ended = time.time_ns()
        span.end(ended)
        publishes.record(ended - started)
        return tell_id

    def _kind(self, contract: Contract) -> tuple[Template, Publishes]:
        subject = Names(contract.actor, self._namespace).tell(contract.name, "{key}")
        attributes = semconv.send_attributes(subject, self._jetstream.connection.server_address)
        template = self._tracer.template(f"publish {subject}", SpanKind.PRODUCER, attributes)
        kind = self._kinds[contract] = template, self._tracer.publishes(attributes)
        return kind
