"""The names of OpenTelemetry's semantic conventions that the runtime uses, each once.

Written for conventions 1.44. They are plain strings, and not taken from `opentelemetry.semconv`, because the RPC and
messaging names live in its `_incubating` package, which may change in any release.
"""

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
SCOPE: Final = "actorloom"

# Resource.
SERVICE_NAME: Final = "service.name"
SERVICE_NAMESPACE: Final = "service.namespace"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
TELEMETRY_SDK_LANGUAGE: Final = "telemetry.sdk.language"
TELEMETRY_SDK_NAME: Final = "telemetry.sdk.name"
TELEMETRY_SDK_VERSION: Final = "telemetry.sdk.version"

# Query and command: CLIENT and SERVER.
RPC_SYSTEM_NAME: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_RESPONSE_STATUS_CODE: Final = "rpc.response.status_code"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
NETWORK_PROTOCOL_NAME: Final = "network.protocol.name"

# Emit and react: PRODUCER and CONSUMER.
MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION_NAME: Final = "messaging.destination.name"
MESSAGING_DESTINATION_TEMPLATE: Final = "messaging.destination.template"
MESSAGING_SUBSCRIPTION_NAME: Final = "messaging.destination.subscription.name"
MESSAGING_CONSUMER_GROUP: Final = "messaging.consumer.group.name"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
# Not in the conventions: there is no NATS page yet.
MESSAGING_NATS_STREAM: Final = "messaging.nats.stream"
MESSAGING_NATS_SEQUENCE: Final = "messaging.nats.sequence"
MESSAGING_NATS_DELIVERY_COUNT: Final = "messaging.nats.delivery_count"

NATS: Final = "nats"
OPERATION_SEND: Final = "send"
OPERATION_PROCESS: Final = "process"

# Errors.
ERROR_TYPE: Final = "error.type"
EXCEPTION_EVENT: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
EXCEPTION_ESCAPED: Final = "exception.escaped"

# Metrics: durations in seconds, counters in messages.
RPC_CLIENT_CALL_DURATION: Final = "rpc.client.call.duration"
RPC_SERVER_CALL_DURATION: Final = "rpc.server.call.duration"
MESSAGING_CLIENT_OPERATION_DURATION: Final = "messaging.client.operation.duration"
MESSAGING_PROCESS_DURATION: Final = "messaging.process.duration"
MESSAGING_CLIENT_SENT_MESSAGES: Final = "messaging.client.sent.messages"
MESSAGING_CLIENT_CONSUMED_MESSAGES: Final = "messaging.client.consumed.messages"


def rpc_attributes(method: str) -> dict[str, str]:
    """The attributes of a query or command span that do not vary; `method` is `orders/get_order`."""
    return {RPC_SYSTEM_NAME: NATS, RPC_METHOD: method, NETWORK_PROTOCOL_NAME: NATS}


def send_attributes(subject: str) -> dict[str, str]:
    """The attributes of a PRODUCER span that do not vary; `subject` is `orders.event.order_created`, without a key."""
    return {
        MESSAGING_SYSTEM: NATS,
        MESSAGING_OPERATION_NAME: "publish",
        MESSAGING_OPERATION_TYPE: OPERATION_SEND,
        MESSAGING_DESTINATION_TEMPLATE: subject + ".{key}",
    }


def process_attributes(subject: str, *, durable: str, stream: str) -> dict[str, str]:
    """The attributes of a CONSUMER span that do not vary; `durable` names the JetStream consumer."""
    return {
        MESSAGING_SYSTEM: NATS,
        MESSAGING_OPERATION_NAME: "process",
        MESSAGING_OPERATION_TYPE: OPERATION_PROCESS,
        MESSAGING_DESTINATION_TEMPLATE: subject + ".{key}",
        MESSAGING_SUBSCRIPTION_NAME: durable,
        MESSAGING_CONSUMER_GROUP: durable,
        MESSAGING_NATS_STREAM: stream,
    }
