"""The schemas of an actor, each with its kind and its name: those of its messages, replies, events and states."""

import hashlib
from typing import Any, Final, Literal, cast

import msgspec

from runtime.actor.base import Actor
from runtime.actor.metadata import OperationMetadata, describe_operation
from runtime.admin.discovery import Service
from runtime.contracts.from_code import service_of
from runtime.contracts.keywords import mapped
from runtime.wire.schemas import Schema, schema

SchemaKind = Literal["query", "command", "event", "reply", "state"]

_DIGITS: Final = 12
"""The hex digits of a version."""
_WORDS: Final = ("title", "description")
"""The keywords for people, which do not count in a version."""


class Entry(msgspec.Struct, frozen=True):
    """A schema of an actor."""

    kind: SchemaKind
    name: str
    """The name of the class; ``GetOrder.reply`` for a reply. ``state.1`` for the states, with `state_version`: an upgrade reads others."""
    schema: Schema
    former: tuple[str, ...] = ()
    """The former names of a command. Timers and long jobs are stored with them."""

    @property
    def version(self) -> str:
        """The hash of the schema in its canonical form, without titles and descriptions: 12 hex digits."""
        canonical = msgspec.json.encode(_canonical(self.schema), order="deterministic")
        return hashlib.sha256(canonical).hexdigest()[:_DIGITS]


def entries_of_actor(actor: type[Actor[Any]], described: Service | None = None) -> list[Entry]:
    """Return the schemas of an actor from its class, internal commands and states included.

    Args:
        actor: The class.
        described: Its description; by default it is made here.
    """
    found = entries_of_service(described or service_of(actor, "", actor.options))
    for handler in actor.handlers.commands.values():
        if handler.internal:
            found += _of_operation(describe_operation(handler))
    if actor.state_type is not None:
        found.append(Entry("state", f"state.{actor.state_version}", schema(actor.state_type)))
    return found


def entries_of_service(service: Service) -> list[Entry]:
    """Return the schemas of a service as it describes itself, without its states and those that it leaves out."""
    found = [entry for each in service.endpoints for entry in _of_operation(each.metadata)]
    events = service.metadata.emits.items()
    return found + [Entry("event", kind.rpartition(".")[2], each) for kind, each in events]


def _of_operation(metadata: OperationMetadata) -> list[Entry]:
    if not metadata.types or metadata.op not in ("query", "command"):
        return []
    name, *former = metadata.types
    kind: SchemaKind = "query" if metadata.op == "query" else "command"
    found = [] if metadata.request is None else [Entry(kind, name, metadata.request, tuple(former))]
    return found if metadata.response is None else [*found, Entry("reply", f"{name}.reply", metadata.response)]


def _canonical(schema: Any) -> Any:
    """Return a schema in the form that its version is made of: the order of required fields has no meaning."""
    if not isinstance(schema, dict):
        return schema
    return {
        keyword: sorted(value) if keyword == "required" else mapped(keyword, value, _canonical)
        for keyword, value in cast("Schema", schema).items()
        if keyword not in _WORDS
    }
