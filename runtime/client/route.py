"""Routes: everything that sending a message of one type needs, prepared when the first one is sent."""

from collections.abc import Callable
from typing import Any

from opentelemetry.trace import SpanKind

from runtime.actor.message import Contract, Message, NewKey, codec_of, token_by
from runtime.client.breaker import Breaker, BreakerPolicy
from runtime.errors import CodecError, HandlerFailed
from runtime.nats.connection import Connection, NoResponders, Response, validate_subject
from runtime.telemetry import Durations, Publishes, ServiceTracer, Template, semconv
from runtime.wire import header_block
from runtime.wire.buckets import BUCKETS, partition_of
from runtime.wire.codec import JSON, Codec, format_in
from runtime.wire.ids import key_for
from runtime.wire.replies import read_error
from runtime.wire.subjects import Names, key_token


class Owners:
    """Where the owners of an actor's keys receive requests. The routes of all messages of the actor share it."""

    __slots__ = ("partitions",)

    def __init__(self) -> None:
        self.partitions = 1
        """The number of partitions of the keys, as far as a reply has told."""


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
        "breaker", "contract", "durations", "encode", "op", "owners", "reply", "subject", "subject_text", "template"
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
        """Encodes a message. Raises `InvalidValue` if it does not fit its own type."""
        self.subject = subject.encode()
        self.subject_text = subject
        self.template = template
        self.durations = durations
        self.breaker = Breaker(policy)
        self.owners = owners
        self.reply: Codec[Any] | None = Codec(contract.reply) if contract.reply not in (None, type(None)) else None

    def read(self, response: Response) -> Any:
        """Return the value of a reply.

        Raises:
            NoResponders: No process owns the key now.
            RequestError: The reply is an error, or its body does not have the declared type.
        """
        block, payload = response
        reply_format = JSON
        if block is not None:
            if header_block.PARTITIONS in block:
                self._learn(block)
            if header_block.SERVICE_ERROR_CODE in block:
                raise read_error(block, payload)
            reply_format = format_in(block)
        if self.reply is None:
            return None
        try:
            return self.reply.decode(payload, reply_format)
        except CodecError as error:
            failed = HandlerFailed(f"{self.subject_text}: the reply does not fit {self.contract.reply}: {error}")
            failed.executed = self.op == "command"
            raise failed from error

    def owner_subject(self, message: Message, command_id: str | None) -> bytes:
        """Return the subject on which the owner of a message's key receives it, if there are several partitions.

        Raises:
            InvalidValue, CodecError: The key cannot be part of a subject.
        """
        contract, partitions = self.contract, self.owners.partitions
        if isinstance(contract.key, NewKey):
            token = key_token(key_for(command_id or ""))
        elif contract.key_of is None:
            return self.subject
        else:
            token = token_by(contract, message)
        return b"%b.%d" % (self.subject, partition_of(token, partitions))

    def _learn(self, block: bytes) -> None:
        """Take note of the number of partitions in a reply. Raises `NoResponders` if no process owns the key."""
        partitions = header_block.number(header_block.get(block, header_block.PARTITIONS)) or 1
        if partitions <= BUCKETS:
            self.owners.partitions = partitions
        if header_block.UNSERVED in block:
            raise NoResponders(self.subject_text)


def make_route(
    contract: Contract,
    namespace: str,
    connection: Connection,
    tracer: ServiceTracer,
    policy: BreakerPolicy,
    owners: Owners,
) -> Route:
    """Return the route of a message type.

    Args:
        contract: The contract of the message type.
        namespace: The namespace of the actor; empty if it has none.
        connection: The connection, whose server becomes an attribute of spans and metrics.
        tracer: Creates the template of spans, and the histogram.
        policy: The limits of the circuit breaker.
        owners: Where the owners of the actor's keys receive requests.

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
        subject = names.request(contract.op, contract.name)
        method = f"{contract.actor}/{contract.name}"
        attributes = semconv.rpc_attributes(method, connection.server_address)
        template = tracer.template(method, SpanKind.CLIENT, attributes)
        durations = tracer.durations(semconv.RPC_CLIENT_CALL_DURATION, attributes)
    validate_subject(subject)
    return Route(contract, subject, template, durations, policy, owners)
