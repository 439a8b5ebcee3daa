"""Names of the OpenTelemetry semantic conventions 1.44 that the runtime uses.

The names are plain strings here, because the RPC and messaging names of the package `opentelemetry.semconv` are in its
`_incubating` part, which may change in any release. The constants are grouped: resource, RPC (CLIENT and SERVER spans
of queries and commands), messaging (PRODUCER and CONSUMER spans of events), errors, and metrics.
"""

from typing import Final

SCOPE: Final = "actorloom"
"""The name of the runtime's instrumentation scope."""

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
MESSAGING_NATS_STREAM: Final = "messaging.nats.stream"
"""The JetStream stream. The conventions do not cover NATS yet; this name and the next two follow their pattern."""
MESSAGING_NATS_SEQUENCE: Final = "messaging.nats.sequence"
"""The stream sequence of the message."""
MESSAGING_NATS_DELIVERY_COUNT: Final = "messaging.nats.delivery_count"
"""The number of times that the message was delivered, this time included."""

NATS: Final = "nats"
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
MESSAGING_PROCESS_DURATION: Final = "messaging.process.duration"


def rpc_attributes(method: str) -> dict[str, str]:
    """Return the constant attributes of a query or command span; `method` has the form `orders/get_order`."""
    return {RPC_SYSTEM_NAME: NATS, RPC_METHOD: method, NETWORK_PROTOCOL_NAME: NATS}


def send_attributes(subject: str) -> dict[str, str]:
    """Return the constant attributes of a PRODUCER span.

    Args:
        subject: The event's subject without a key, for example `orders.event.order_created`.
    """
    return {
        MESSAGING_SYSTEM: NATS,
        MESSAGING_OPERATION_NAME: "publish",
        MESSAGING_OPERATION_TYPE: OPERATION_SEND,
        MESSAGING_DESTINATION_TEMPLATE: subject + ".{key}",
    }


def process_attributes(subject: str, *, durable: str, stream: str) -> dict[str, str]:
    """Return the constant attributes of a CONSUMER span.

    Args:
        subject: The event's subject without a key, for example `orders.event.order_created`.
        durable: The name of the JetStream consumer.
        stream: The name of the stream.
    """
    return {
        MESSAGING_SYSTEM: NATS,
        MESSAGING_OPERATION_NAME: "process",
        MESSAGING_OPERATION_TYPE: OPERATION_PROCESS,
        MESSAGING_DESTINATION_TEMPLATE: subject + ".{key}",
        MESSAGING_SUBSCRIPTION_NAME: durable,
        MESSAGING_CONSUMER_GROUP: durable,
        MESSAGING_NATS_STREAM: stream,
    }
