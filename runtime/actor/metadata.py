"""The description of an actor: its operations with their schemas, the events it emits, and the events it reacts to.

Discovery announces it (`runtime.actor.metadata_texts` has the form on the wire), and the command line shows it.
"""

from typing import Any

import msgspec

from runtime.actor.base import Actor
from runtime.actor.handler import Handler
from runtime.actor.message import Contract, declared
from runtime.wire.codec import schema

RUNTIME = "actorloom"
"""The name of this runtime in the metadata of a service."""

Schema = dict[str, Any]
"""A JSON Schema (2020-12)."""


class OperationMetadata(msgspec.Struct, frozen=True):
    """The description of a query or command. All fields have their default for an endpoint of another framework."""

    op: str = ""
    """``query`` or ``command``."""
    request: Schema | None = None
    """The schema of the message; None if the service does not announce it."""
    response: Schema | None = None
    """The schema of the reply; None if the service does not announce it."""
    key: str = ""
    """The path of the key in the message, as on the wire (``new.orderId``); empty if the message has no key."""
    types: list[str] = []
    """The name of the message's class, and its former names. Timers and long jobs are stored with the name."""
    description: str = ""
    """The first line of the handler's docstring."""


class Reaction(msgspec.Struct, frozen=True):
    """An event that an actor reacts to. As a string: ``orders.OrderModified where {"total":[…]}``."""

    event: str
    """The CloudEvents type: ``orders.OrderModified``."""
    where: dict[str, Any] | None = None
    """The content pattern; None if the actor reacts to each event of the type. See `runtime.actor.patterns`."""

    @property
    def source(self) -> str:
        """The name of the actor that emits the event: ``orders``."""
        return self.event.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The name of the event's class: ``OrderModified``."""
        return self.event.rpartition(".")[2]

    def __str__(self) -> str:
        return f"{self.event} where {msgspec.json.encode(self.where).decode()}" if self.where else self.event


class ServiceMetadata(msgspec.Struct, frozen=True):
    """The description of an actor without its operations."""

    runtime: str = RUNTIME
    """The name of the runtime; another name, or an empty one, for a service of another framework."""
    keyed: bool = False
    """Whether the actor has state, and so a record per key."""
    namespace: str = ""
    emits: dict[str, Schema] = {}
    """The schemas of the events by CloudEvents type. The additional field ``x-key`` is the path of the key."""
    reacts: list[Reaction] = []
    """The reactions, sorted by their text."""


def describe_service(actor: type[Actor[Any]], namespace: str = "") -> ServiceMetadata:
    """Return the description of an actor in a namespace."""
    contracts = [contract for contract in declared.get(actor.name, {}).values() if contract.op == "event"]
    reactions = [
        Reaction(event.__contract__.type_name, handler.where)
        for event, handlers in actor.handlers.reactions.items()
        for handler in handlers
    ]
    return ServiceMetadata(
        keyed=actor.state_type is not None,
        namespace=namespace,
        emits={contract.type_name: _event_schema(contract) for contract in contracts},
        reacts=sorted(reactions, key=str),
    )


def describe_operation(handler: Handler) -> OperationMetadata:
    """Return the description of a query or command."""
    contract = handler.contract
    return OperationMetadata(
        op=contract.op,
        request=schema(contract.type),
        response=schema(contract.reply if contract.reply is not None else type(None)),
        key=_wire_key(contract),
        types=[contract.type.__name__, *contract.formerly],
        description=handler.doc.partition("\n")[0],
    )


def _event_schema(contract: Contract) -> Schema:
    key = _wire_key(contract)
    return {**schema(contract.type), "x-key": key} if key else schema(contract.type)


def _wire_key(contract: Contract) -> str:
    """Return the path of the key with the names of the wire; empty if the message has no key, or computes it."""
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
