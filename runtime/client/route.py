"""Routes: everything that sending a message of one type needs, prepared when the first one is sent."""

from collections.abc import Callable
from typing import Any

from opentelemetry.trace import SpanKind

from runtime.actor.message import Contract, Message, NewKey, codec_of, encode_message, token_by
from runtime.client.breaker import Breaker, BreakerPolicy
from runtime.errors import CodecError, HandlerFailed
from runtime.nats.connection import Connection, NoResponders, Response, validate_subject
from runtime.telemetry import Durations, Publishes, ServiceTracer, Template, semconv
from runtime.wire import header_block
from runtime.wire.buckets import BUCKETS, partition_of
from runtime.wire.codec import JSON, Codec, format_in
from runtime.wire.ids import key_for
from runtime.wire.replies import has_only_trace, read_error
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token


class Owners:
    """Where the owners of an actor's keys receive requests. The routes of all messages of the actor share it.

    A request goes to the owner of its key itself once a reply has told the number of partitions. The number may change, and the
    server may refuse the subjects of owners to this client. So a request that reaches no owner goes to the plain subject, which
    is always right, and the reply to it counts.
    """

    __slots__ = ("_refused", "changes", "partitions")

    def __init__(self) -> None:
        self.partitions = 1
        """The number of partitions of the keys, as far as it is known."""
        self.changes = 0
        """How often that number has changed."""
        self._refused = False

    def learn(self, block: bytes | None) -> None:
        """Take note of the number of partitions in the reply to a request on the plain subject; it is unknown if there is none."""
        number = header_block.number(header_block.get(block, header_block.PARTITIONS)) or 1
        self._change(number if number <= BUCKETS and not self._refused else 1)

    def refuse(self) -> None:
        """Use the plain subjects only: the server does not let this client publish to those of owners."""
        self._refused = True
        self._change(1)

    def _change(self, number: int) -> None:
        self.changes += number != self.partitions
        self.partitions = number


class Route:
    """The route of one message type. All sends of a bus share it.

    Args:
        contract: The contract of the message type.
        subject: The subject of a query or command; of an event, the subject without the token of its key.
        template: Starts the spans of the sends.
        durations: Records their durations.
        policy: The limits of the circuit breaker.
        owners: Where the owners of the keys receive requests.
    """

    __slots__ = (
        "_breakers", "_changes", "_makes_key", "_policy", "breaker", "contract", "durations", "encode", "op", "owners", "reply", "subject",
        "subject_text", "template",
    )  # fmt: skip

    def __init__(
        self,
        contract: Contract,
        subject: str,
        template: Template,
        durations: Durations | Publishes,
        policy: BreakerPolicy,
        owners: Owners,
    ) -> None:
        self.contract = contract
        self.op = contract.op
        self.encode: Callable[[Any, str], bytes] = codec_of(contract.type).encode
        if contract.encode is not None:
            self.encode = lambda message, _: encode_message(message)
        """Encodes a message. Raises `InvalidValue` if it does not fit its own type."""
        self.subject = subject.encode()
        self.subject_text = subject
        self.template = template
        self.durations = durations
        self.breaker = Breaker(policy)
        self._policy = policy
        self._makes_key = isinstance(contract.key, NewKey)
        self._breakers: dict[int, Breaker] = {}
        """The circuit breakers of the partitions, as long as requests go to their owners."""
        self._changes = 0
        """The changes of `Owners.partitions` that are known here."""
        self.owners = owners
        self.reply: Codec[Any] | None = Codec(contract.reply) if contract.reply not in (None, type(None)) else None

    def read(self, response: Response) -> Any:
        """Return the value of a reply.

        Raises:
            NoResponders: No process owns the key now.
            RequestError: The reply is an error, or its body does not have the declared type.
        """
        block, payload = response.headers, response.payload
        reply_format = JSON
        if block is not None and not has_only_trace(block):
            if header_block.PARTITIONS in block:
                self.owners.learn(block)
            if header_block.SERVICE_ERROR_CODE in block:
                if header_block.get(block, header_block.UNSERVED) is not None:
                    raise NoResponders(self.subject_text)
                raise read_error(block, payload)
            reply_format = format_in(block)
        if self.reply is None or (not payload and self.contract.encode is not None):
            return None  # A command that is sent by its names may declare no reply.
        try:
            return self.reply.decode(payload, reply_format)
        except CodecError as error:
            failed = HandlerFailed(f"{self.subject_text}: the reply does not fit {self.contract.reply}: {error}")
            failed.executed = self.op == "command"
            raise failed from error

    def to_owner(self, message: Message, command_id: str | None) -> tuple[bytes, Breaker]:
        """Return the subject on which the owner of a message's key receives it, and the circuit breaker of its partition.

        A message without a key, or with one that no subject can hold, goes to the plain subject. A partition has a circuit of
        its own, so that one without an owner does not hold up the requests to the others.
        """
        contract = self.contract
        try:
            token = key_token(key_for(command_id or "")) if self._makes_key else token_by(contract, message)
        except CodecError:
            token = ""  # The service refuses it.
        if not token:
            return self.subject, self.breaker
        if self._changes != self.owners.changes:
            # Requests have gone to the plain subject, and their replies have not closed the circuits of the partitions.
            self._changes = self.owners.changes
            self._breakers.clear()
        number = partition_of(token, self.owners.partitions)
        breaker = self._breakers.get(number)
        if breaker is None:
            breaker = self._breakers[number] = Breaker(self._policy)
        return b"%b.%d" % (self.subject, number), breaker


def make_route(
    contract: Contract,
    namespace: str,
    connection: Connection,
    tracer: ServiceTracer,
    policy: BreakerPolicy,
    owners: Owners,
    *,
    cancel: bool = False,
) -> Route:
    """Return the route of a message type.

    Args:
        contract: The contract of the message type.
        namespace: The namespace of the actor; empty if it has none.
        connection: The connection, whose server becomes an attribute of spans and metrics.
        tracer: Creates the template of spans, and the histogram.
        policy: The limits of the circuit breaker.
        owners: Where the owners of the actor's keys receive requests.
        cancel: Whether it is that of the cancellations of a long job.

    Raises:
        PublishError: The namespace is not valid in a subject.
    """
    names = Names(contract.actor, namespace)
    if contract.op == "event":
        subject = names.events(contract.name)
        attributes = semconv.send_attributes(names.event(contract.name, "{key}"), connection.server_address)
        template = tracer.template(f"publish {subject}.{{key}}", SpanKind.PRODUCER, attributes)
        durations: Durations | Publishes = tracer.publishes(attributes)
    else:
        subject = names.cancel(contract.name) if cancel else names.request(contract.op, contract.name)
        method = f"{contract.actor}/{'cancel_' if cancel else ''}{contract.name}"
        attributes = semconv.rpc_attributes(method, connection.server_address)
        template = tracer.template(method, SpanKind.CLIENT, attributes)
        durations = tracer.durations(semconv.RPC_CLIENT_CALL_DURATION, attributes)
    validate_subject(subject)
    route = Route(contract, subject, template, durations, policy, owners)
    if cancel:
        route.reply = Codec(bool)
    return route
