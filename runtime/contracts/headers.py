"""The headers of messages and the body of errors as JSON Schemas, for documents. docs/wire.md defines them."""

from typing import Any, Final

from runtime.actor.error_kinds import ErrorKind
from runtime.wire.schemas import Schema

_TRACE: Final[dict[str, Schema]] = {
    "traceparent": {"type": "string", "description": "W3C trace context."},
    "tracestate": {"type": "string", "description": "W3C trace context."},
    "baggage": {"type": "string", "description": "W3C baggage."},
}

REQUEST: Final[Schema] = {
    "type": "object",
    "properties": {
        "Content-Type": {"enum": ["application/json", "application/msgpack"]},
        "Deadline": {
            "type": "string",
            "description": "Unix milliseconds by the clock of the server, after which the caller stops waiting.",
        },
        "Idempotency-Key": {
            "type": "string",
            "maxLength": 256,
            "description": "The id of a command, which takes effect once.",
        },
        **_TRACE,
    },
}
"""The headers of a request. All are optional."""

ERROR: Final[Schema] = {
    "type": "object",
    "properties": {
        "Nats-Service-Error": {"type": "string", "description": "The text of the error."},
        "Nats-Service-Error-Code": {"type": "string", "description": "Its code.", "pattern": "^[0-9]+$"},
    },
    "required": ["Nats-Service-Error", "Nats-Service-Error-Code"],
}
"""The headers of an error reply."""

CLOUDEVENTS: Final[Schema] = {
    "type": "object",
    "properties": {
        "ce-specversion": {"const": "1.0"},
        "ce-id": {"type": "string", "description": "The id of the event. A repeated publication has the same id."},
        "ce-source": {"type": "string", "description": "The actor: /orders."},
        "ce-type": {"type": "string", "description": "The type of the event: orders.OrderCreated."},
        "ce-time": {"type": "string", "description": "The time of the emit, RFC 3339 in UTC."},
        "ce-subject": {"type": "string", "description": "The key, if the event has one."},
        "ce-datacontenttype": {"const": "application/json"},
        "Nats-Msg-Id": {"type": "string", "description": "The id of the event, for deduplication by JetStream."},
        **_TRACE,
    },
    "required": ["ce-specversion", "ce-id", "ce-source", "ce-type"],
}
"""The headers of an event: CloudEvents 1.0 in binary mode."""


def error_schema(kinds: list[ErrorKind]) -> Schema:
    """Return the schema of the body of an error reply, with one of these kinds; of any error if there are none."""
    kind: Schema = {"type": "string"}
    code: Schema = {"type": "integer"}
    if kinds:
        kind = {"enum": sorted({each.kind for each in kinds})}
        code = {"enum": sorted({each.code for each in kinds})}
    fields: dict[str, Any] = {
        "code": code,
        "kind": kind,
        "message": {"type": "string"},
        "executed": {
            "type": ["boolean", "null"],
            "description": "Whether the command took effect; null if that is unknown.",
        },
        "retryAfter": {"type": "number", "description": "Seconds."},
    }
    error = {"type": "object", "properties": fields, "required": ["code", "kind", "message", "executed"]}
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}
