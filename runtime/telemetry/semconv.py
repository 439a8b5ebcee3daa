"""Names of the OpenTelemetry semantic conventions 1.44 that the runtime uses.

The names are plain strings here, because the RPC and messaging names of the package `opentelemetry.semconv` are in its
`_incubating` part, which may change in any release. The constants are grouped: resource, RPC (CLIENT and SERVER spans
of queries and commands), messaging (PRODUCER and CONSUMER spans of events), errors, and metrics. Names that begin with
`actorloom.` are the runtime's own.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from opentelemetry.util.types import AttributeValue

SCOPE: Final = "actorloom"
"""The name of the runtime's instrumentation scope."""

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
"""The version of the conventions, for receivers that convert telemetry to another one."""

HOST_NAME: Final = "host.name"
IP: Final = "ip"
"""The address of the machine, under the name by which Jaeger compares the hosts of spans. Its later versions use host.name."""
SERVICE_NAME: Final = "service.name"
SERVICE_NAMESPACE: Final = "service.namespace"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
TELEMETRY_SDK_LANGUAGE: Final = "telemetry.sdk.language"
TELEMETRY_SDK_NAME: Final = "telemetry.sdk.name"
TELEMETRY_SDK_VERSION: Final = "telemetry.sdk.version"

RPC_SYSTEM_NAME: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_RESPONSE_STATUS_CODE: Final = "rpc.response.status_code"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
NETWORK_PROTOCOL_NAME: Final = "network.protocol.name"

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION_NAME: Final = "messaging.destination.name"
MESSAGING_DESTINATION_TEMPLATE: Final = "messaging.destination.template"
MESSAGING_SUBSCRIPTION_NAME: Final = "messaging.destination.subscription.name"
MESSAGING_CONSUMER_GROUP: Final = "messaging.consumer.group.name"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
STREAM_NAME: Final = "actorloom.stream.name"
"""The JetStream stream. The conventions have no names for this attribute and the next five."""
STREAM_SEQUENCE: Final = "actorloom.stream.sequence"
"""The sequence of the message in its stream."""
DELIVERY_COUNT: Final = "actorloom.delivery.count"
"""The number of times that the message was delivered, this time included."""
REPLAY: Final = "actorloom.replay"
"""The name of the replay that sent the event."""
COMMAND: Final = "actorloom.command"
"""The command that a timer sends."""
ERROR_KIND: Final = "actorloom.error.kind"
"""The class of an error whose `error.type` is a status code."""

NATS: Final = "nats"
PUBLISH: Final = "publish"
OPERATION_SEND: Final = "send"
OPERATION_PROCESS: Final = "process"

ERROR_TYPE: Final = "error.type"
EXCEPTION_EVENT: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
EXCEPTION_ESCAPED: Final = "exception.escaped"

RPC_CLIENT_CALL_DURATION: Final = "rpc.client.call.duration"
RPC_SERVER_CALL_DURATION: Final = "rpc.server.call.duration"
MESSAGING_CLIENT_OPERATION_DURATION: Final = "messaging.client.operation.duration"
MESSAGING_CLIENT_SENT_MESSAGES: Final = "messaging.client.sent.messages"
MESSAGING_CLIENT_CONSUMED_MESSAGES: Final = "messaging.client.consumed.messages"
MESSAGING_PROCESS_DURATION: Final = "messaging.process.duration"
CLIENT_RETRIES: Final = "actorloom.client.retries"
CIRCUITS_OPENED: Final = "actorloom.client.circuits.opened"
REQUESTS_RELAYED: Final = "actorloom.requests.relayed"
COMMANDS_CHANGED: Final = "actorloom.commands.changed"
RULES_MATCHED: Final = "actorloom.rules.matched"
REACTIONS_STALLED: Final = "actorloom.reactions.stalled"
REACTIONS_HANDED_ON: Final = "actorloom.reactions.handed_on"
TIMERS_SUPERSEDED: Final = "actorloom.timers.superseded"
HANDLERS_SLOW: Final = "actorloom.handlers.slow"
HANDLERS_CUT: Final = "actorloom.handlers.cut"
HANDLERS_ABANDONED: Final = "actorloom.handlers.abandoned"
CLOCK_OFFSET: Final = "actorloom.clock.offset"
PARTITIONS: Final = "actorloom.partitions"
PARTITIONS_OWNED: Final = "actorloom.partitions.owned"
KEYS_BLOCKED: Final = "actorloom.keys.blocked"
MESSAGES_WAITING: Final = "actorloom.messages.waiting"
CONSUMER_LAG: Final = "actorloom.consumer.lag"
DEAD_LETTERS_STORED: Final = "actorloom.dead_letters.stored"
PERMISSIONS_REFUSED: Final = "actorloom.permissions.refused"

_DESTINATION = frozenset(
    {MESSAGING_SYSTEM, MESSAGING_OPERATION_NAME, MESSAGING_DESTINATION_TEMPLATE, SERVER_ADDRESS, SERVER_PORT}
)
_CONSUMER = _DESTINATION | {MESSAGING_SUBSCRIPTION_NAME, MESSAGING_CONSUMER_GROUP}
_CALL = frozenset({RPC_SYSTEM_NAME, RPC_METHOD})


class MetricSpec(NamedTuple):
    """The definition of a metric."""

    unit: str
    """The unit, in the notation of UCUM."""
    description: str
    attributes: frozenset[str] = frozenset()
    """The attributes that a series may have, besides `error.type` and the status code of a failure."""


METRICS: Final = {
    RPC_CLIENT_CALL_DURATION: MetricSpec(
        "s", "Duration of outbound queries and commands.", _CALL | {SERVER_ADDRESS, SERVER_PORT}
    ),
    RPC_SERVER_CALL_DURATION: MetricSpec("s", "Duration of inbound queries and commands.", _CALL),
    MESSAGING_CLIENT_OPERATION_DURATION: MetricSpec(
        "s", "Duration of publishing an event or a timer.", _DESTINATION | {MESSAGING_OPERATION_TYPE}
    ),
    MESSAGING_CLIENT_SENT_MESSAGES: MetricSpec("{message}", "Attempts to publish an event or a timer.", _DESTINATION),
    MESSAGING_CLIENT_CONSUMED_MESSAGES: MetricSpec("{message}", "Deliveries of events and timers.", _CONSUMER),
    MESSAGING_PROCESS_DURATION: MetricSpec("s", "Duration of handling an event or a timer.", _CONSUMER),
    CLIENT_RETRIES: MetricSpec("{request}", "Queries and commands that were sent again."),
    CIRCUITS_OPENED: MetricSpec("{circuit}", "Circuit breakers that opened."),
    REQUESTS_RELAYED: MetricSpec(
        "{request}", "Queries and commands that were passed on to the owner of their partition."
    ),
    COMMANDS_CHANGED: MetricSpec(
        "{command}", "Nested commands whose body differs from that of an earlier run of their sender."
    ),
    HANDLERS_SLOW: MetricSpec("{handler}", "Handlers that ran for long, and were logged."),
    HANDLERS_CUT: MetricSpec("{handler}", "Handlers that were cancelled at their limit or deadline."),
    HANDLERS_ABANDONED: MetricSpec("{handler}", "Handlers that did not end when they were cancelled."),
    CLOCK_OFFSET: MetricSpec(
        "s",
        "Seconds by which the wall clock of the process is ahead of that of the NATS server; none if that is unknown.",
    ),
    PARTITIONS: MetricSpec("{partition}", "Partitions of the keys; 1 for an actor that is one whole."),
    PARTITIONS_OWNED: MetricSpec(
        "{partition}", "Partitions that the process serves; of an actor without state 1 if it is served."
    ),
    KEYS_BLOCKED: MetricSpec("{key}", "Keys whose first message waits for another attempt."),
    MESSAGES_WAITING: MetricSpec("{message}", "Messages that wait to run in the memory of the process."),
    CONSUMER_LAG: MetricSpec(
        "{message}",
        "Messages of a stream that wait for the actor or are in progress, a few seconds ago.",
        frozenset({STREAM_NAME}),
    ),
    DEAD_LETTERS_STORED: MetricSpec("{message}", "Messages that became dead letters."),
    PERMISSIONS_REFUSED: MetricSpec("{permission}", "Subjects that the server refuses to the actor now."),
    REACTIONS_STALLED: MetricSpec(
        "{stall}", "Times at which the limit of parked events was reached.", frozenset({STREAM_NAME})
    ),
    REACTIONS_HANDED_ON: MetricSpec("{event}", "Events whose key is in another partition, which were handed on."),
    TIMERS_SUPERSEDED: MetricSpec("{timer}", "Firings of a schedule that waited until a newer one took their place."),
}
"""The metrics of the runtime, by name."""


def metric_attributes(name: str, attributes: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Return those attributes of a span that its metric has too.

    Args:
        name: The name of a metric in `METRICS`.
        attributes: The attributes of the span.
    """
    allowed = METRICS[name].attributes
    return {key: value for key, value in attributes.items() if key in allowed or key == ERROR_TYPE}


def rpc_attributes(method: str, server: tuple[str, int]) -> dict[str, AttributeValue]:
    """Return the constant attributes of a query or command span.

    Args:
        method: The actor and the message: `orders/get_order`.
        server: Host and port of the NATS server.
    """
    return {RPC_SYSTEM_NAME: NATS, RPC_METHOD: method, NETWORK_PROTOCOL_NAME: NATS, **_server(server)}


def send_attributes(template: str, server: tuple[str, int]) -> dict[str, AttributeValue]:
    """Return the constant attributes of a PRODUCER span.

    Args:
        template: The subject with a placeholder for each variable token: `orders.event.order_created.{key}`.
        server: Host and port of the NATS server.
    """
    return {
        MESSAGING_SYSTEM: NATS,
        MESSAGING_OPERATION_NAME: PUBLISH,
        MESSAGING_OPERATION_TYPE: OPERATION_SEND,
        MESSAGING_DESTINATION_TEMPLATE: template,
        **_server(server),
    }


def process_attributes(
    template: str, *, durable: str, stream: str, server: tuple[str, int]
) -> dict[str, AttributeValue]:
    """Return the constant attributes of a CONSUMER span.

    Args:
        template: The subject with a placeholder for each variable token: `orders.event.order_created.{key}`.
        durable: The name of the JetStream consumer.
        stream: The name of the stream.
        server: Host and port of the NATS server.
    """
    return {
        MESSAGING_SYSTEM: NATS,
        MESSAGING_OPERATION_NAME: OPERATION_PROCESS,
        MESSAGING_OPERATION_TYPE: OPERATION_PROCESS,
        MESSAGING_DESTINATION_TEMPLATE: template,
        MESSAGING_SUBSCRIPTION_NAME: durable,
        MESSAGING_CONSUMER_GROUP: durable,
        STREAM_NAME: stream,
        **_server(server),
    }


def _server(server: tuple[str, int]) -> dict[str, AttributeValue]:
    host, port = server
    return {SERVER_ADDRESS: host, SERVER_PORT: port}
