"""The description of an actor: its operations with their schemas and errors, its events, streams and reactions.

Discovery announces it (`runtime.actor.metadata_texts` has the form on the wire), and the command line shows it.
"""

from typing import Any

import msgspec

from runtime.actor.base import Actor
from runtime.actor.error_kinds import COMMON_ERRORS, ErrorKind, kinds_of
from runtime.actor.handler import Handler
from runtime.actor.message import Contract, declared
from runtime.options import Options
from runtime.wire.schemas import Schema, schema, struct_in, with_key
from runtime.wire.subjects import Names

RUNTIME = "actorloom"
"""The name of this runtime in the metadata of a service."""


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
    """The first line of the handler's docstring, or else of the message's."""
    errors: list[ErrorKind] = []
    """The errors of the domain that the handler raises. Every operation may also answer with `ServiceMetadata.errors`."""


class EventMetadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """The description of an event without its schema."""

    subject: str
    """The subjects on which they are published, for a subscriber: ``orders.event.order_created.*``, ``*`` for the key."""
    stream: str
    """The stream that stores them: ``orders-events``."""
    filter: str = ""
    """The subjects under which it stores them, for a consumer: ``orders.event.order_created.*.*``, for bucket and key."""
    key: str = ""
    """The path of the key in the event, as on the wire; empty if the event has no key."""
    description: str = ""
    """The first line of the docstring."""


class Reaction(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event that an actor reacts to. As a string: ``orders.OrderModified where {"total":[…]}``."""

    event: str
    """The CloudEvents type: ``orders.OrderModified``; ``orders.*`` or ``*`` of a reaction to events of any type."""
    where: dict[str, Any] | None = None
    """The content pattern; None if the actor reacts to each event of the type. See `runtime.actor.patterns`."""
    subject: str = ""
    """The subjects on which the events are published: ``orders.event.order_modified.*``."""
    stream: str = ""
    """The stream of the events: ``orders-events``."""
    filter: str = ""
    """The subjects under which it stores them: ``orders.event.order_modified.*.*``."""
    description: str = ""
    """The first line of the handler's docstring."""
    reaction: str = ""
    """The name of the reaction, as in dead letters: ``on_modified``, or of several types ``on_change_order_modified``."""
    method: str = ""
    """The name that the reactions of one method share: ``on_change``. The ids that the actor remembers end with it."""

    @property
    def source(self) -> str:
        """The name of the actor that emits the event: ``orders``; empty if events of all actors are taken."""
        return self.event.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The name of the event's class: ``OrderModified``; ``*`` if events of any type are taken."""
        return self.event.rpartition(".")[2]

    def takes(self, event: str) -> bool:
        """Return whether the reaction takes events of a type, given as ``orders.OrderModified``, of another actor than its own."""
        return self.event in (event, f"{event.rpartition('.')[0]}.*", "*")

    def __str__(self) -> str:
        return f"{self.event} where {msgspec.json.encode(self.where).decode()}" if self.where else self.event


class ServiceMetadata(msgspec.Struct, frozen=True):
    """The description of an actor without its operations."""

    runtime: str = RUNTIME
    """The name of the runtime; another name, or an empty one, for a service of another framework."""
    keyed: bool = False
    """Whether the actor has state, and so a record per key."""
    namespace: str = ""
    partitions: int = 1
    """The number of partitions for which the process is configured."""
    remember: float = 0.0
    """Seconds for which the actor remembers a handled message; 0 if it has no state, and so remembers none."""
    emits: dict[str, Schema] = {}
    """The schemas of the events by CloudEvents type."""
    events: dict[str, EventMetadata] = {}
    """The subjects, streams and keys of the events by CloudEvents type."""
    reacts: list[Reaction] = []
    """The reactions, sorted by their text."""
    streams: dict[str, str] = {}
    """The streams that other programs may read: of ``events`` and of ``dead letters``."""
    errors: list[ErrorKind] = []
    """The errors with which every operation may answer."""


def describe_service(actor: type[Actor[Any]], namespace: str = "", options: Options = Options()) -> ServiceMetadata:
    """Return the description of an actor in a namespace, with the options with which it runs."""
    contracts = [contract for contract in declared.get(actor.name, {}).values() if contract.op == "event"]
    reactions = [
        Reaction(
            event,
            handler.where,
            *places,
            description=_summary(handler),
            reaction=handler.name,
            method=handler.id_suffix.removeprefix("."),
        )
        for handler in actor.handlers.all_reactions()
        for event, places in _events_of(handler, namespace)
    ]
    names = Names(actor.name, namespace)
    told = {"tells": names.tells_stream} if actor.handlers.commands else {}
    keyed = actor.state_type is not None
    return ServiceMetadata(
        keyed=keyed,
        namespace=namespace,
        partitions=options.partitions,
        remember=options.remember if keyed else 0.0,
        emits={contract.type_name: _with_key(contract) for contract in contracts},
        events={
            each.type_name: EventMetadata(*_places(each, namespace), _wire_key(each), first_line(each.type.__doc__))
            for each in contracts
        },
        reacts=sorted(reactions, key=str),
        streams={"events": names.events_stream, "dead letters": names.dead_stream, **told},
        errors=COMMON_ERRORS,
    )


def describe_operation(handler: Handler) -> OperationMetadata:
    """Return the description of a query or command."""
    contract = handler.contract
    # A query of an actor without state does not read the key, so the key may have any length.
    keyed = handler.keyed or contract.op == "command"
    return OperationMetadata(
        op=contract.op,
        request=_with_key(contract) if keyed else schema(contract.type),
        response=schema(contract.reply if contract.reply is not None else type(None)),
        key=_wire_key(contract),
        types=[contract.type.__name__, *contract.formerly],
        description=_summary(handler),
        errors=kinds_of(handler.function, contract.op),
    )


def first_line(doc: str | None) -> str:
    """Return the first line of a docstring; empty if there is none."""
    return (doc or "").strip().partition("\n")[0].strip()


def _summary(handler: Handler) -> str:
    return first_line(handler.doc) or first_line(handler.contract.type.__doc__)


def _events_of(handler: Handler, namespace: str) -> list[tuple[str, tuple[str, str, str]]]:
    """Return the type of the events of a reaction, with their places. Of `AnyEvent`, the type of each source ends with ``*``."""
    contract = handler.contract
    if not handler.takes_all:
        return [(contract.type_name, _places(contract, namespace))]
    if handler.sources is None:
        return [("*", (Names("*", namespace).event("*", "*"), "", Names("*", namespace).stored_event("*")))]
    sources = [Names(each, namespace) for each in handler.sources]
    return [(f"{each.actor}.*", (each.event("*", "*"), each.events_stream, each.stored_event("*"))) for each in sources]


def _places(contract: Contract, namespace: str) -> tuple[str, str, str]:
    """Return the subjects of an event, its stream, and its subjects there."""
    names = Names(contract.actor, namespace)
    return names.event(contract.name, "*"), names.events_stream, names.stored_event(contract.name)


def _with_key(contract: Contract) -> Schema:
    found = schema(contract.type)
    return with_key(found, contract.type, contract.key) if isinstance(contract.key, str) else found


def _wire_key(contract: Contract) -> str:
    """Return the path of the key with the names of the wire; empty if the message has no key, or computes it."""
    if not isinstance(contract.key, str):
        return ""
    kind: Any = contract.type
    path: list[str] = []
    for name in contract.key.split("."):
        struct = struct_in(kind)
        fields = msgspec.structs.fields(struct) if struct is not None else ()
        field = next((field for field in fields if field.name == name), None)
        path.append(field.encode_name if field is not None else name)
        kind = field.type if field is not None else Any
    return ".".join(path)
