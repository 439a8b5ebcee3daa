"""What discovery says of an actor: its operations and their schemas, the events it emits, and what it reacts to.

All of it is text in the metadata of NATS micro (ADR-32). Of the service: ``emits`` (JSON: CloudEvents type to JSON Schema,
with the field that is the key as ``x-key``), ``reacts`` (JSON: a list of types, each with its pattern), ``keyed``,
``namespace``. Of an endpoint: ``op``, ``request`` and ``response`` (JSON Schemas), ``key``, ``description``.
"""

from typing import Any

import msgspec

from runtime.actor.base import Actor
from runtime.actor.handler import Handler
from runtime.actor.message import Contract, declared
from runtime.wire.codec import schema


def service_metadata(actor: type[Actor[Any]], namespace: str = "") -> dict[str, str]:
    """Return the metadata of a service."""
    metadata = {"runtime": "actorloom", "keyed": "false" if actor.state_type is None else "true"}
    if namespace:
        metadata["namespace"] = namespace
    contracts = [contract for contract in declared.get(actor.name, {}).values() if contract.op == "event"]
    if contracts:
        metadata["emits"] = _json({contract.type_name: _event_schema(contract) for contract in contracts})
    reactions = sorted(
        event.__contract__.type_name + (f" where {_json(handler.where)}" if handler.where else "")
        for event, handlers in actor.handlers.reactions.items()
        for handler in handlers
    )
    if reactions:
        metadata["reacts"] = _json(reactions)
    return metadata


def endpoint_metadata(handler: Handler) -> dict[str, str]:
    """Return the metadata of a query's or command's endpoint."""
    contract = handler.contract
    metadata = {
        "op": contract.op,
        "request": _json(schema(contract.type)),
        "response": _json(schema(contract.reply if contract.reply is not None else type(None))),
    }
    if key := wire_key(contract):
        metadata["key"] = key
    if handler.doc:
        metadata["description"] = handler.doc.partition("\n")[0]
    return metadata


def wire_key(contract: Contract) -> str:
    """Return the path of the key as it is spelled on the wire (``new.orderId``); empty where the message has none."""
    if not isinstance(contract.key, str):
        return ""
    kind: Any = contract.type
    path: list[str] = []
    for name in contract.key.split("."):
        fields = msgspec.structs.fields(kind) if hasattr(kind, "__struct_fields__") else ()
        field = next((field for field in fields if field.name == name), None)
        path.append(field.encode_name if field is not None else name)
        kind = field.type if field is not None else None
    return ".".join(path)


def _event_schema(contract: Contract) -> dict[str, Any]:
    key = wire_key(contract)
    return {**schema(contract.type), "x-key": key} if key else schema(contract.type)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
