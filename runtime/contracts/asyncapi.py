"""AsyncAPI 3.0 documents: queries, commands, events and reactions of services as channels and operations.

Schemas are valid in draft 07, the default of AsyncAPI. The NATS binding (0.1.0) has a place for the queue group of an operation and for nothing else, so
facts of JetStream and of this runtime are extensions: ``x-jetstream``, ``x-errors``, ``x-key`` and ``x-where``.
"""

from typing import Any, Final

from runtime.actor.error_kinds import ErrorKind
from runtime.actor.metadata import EventMetadata, Reaction
from runtime.admin.discovery import Endpoint, Service
from runtime.contracts.components import Components, schemas_of
from runtime.contracts.headers import CLOUDEVENTS, ERROR, REQUEST, error_schema
from runtime.contracts.plain import by_subject
from runtime.contracts.subjects import address, event_id, operation_id, queue_group_known, reaction_id, safe
from runtime.contracts.title import Title
from runtime.wire.schemas import Schema
from runtime.wire.subjects import QUEUE

VERSION: Final = "3.0.0"
"""The version of AsyncAPI."""

DEFAULT_HOST: Final = "localhost:4222"
"""The host of the NATS server in a document, if none is given."""

_JSON = "application/json"


def document(services: list[Service], title: Title, host: str = DEFAULT_HOST) -> dict[str, Any]:
    """Return the AsyncAPI document of services of one namespace, as data for JSON.

    Args:
        services: The services, one of each name, in any order.
        title: The title and version of the document.
        host: Host and port of the NATS server, without a scheme.
    """
    return _Document(sorted(services, key=lambda each: each.name)).data(title, host)


class _Document:
    def __init__(self, services: list[Service]) -> None:
        self._channels: dict[str, Any] = {}
        self._operations: dict[str, Any] = {}
        self._messages: dict[str, Any] = {}
        self._schemas = Components(schemas_of(services), "#/components/schemas/", draft_07=True)
        common = [kind for service in services for kind in service.metadata.errors]
        for service in services:
            for endpoint in by_subject(service):
                self._request(service, endpoint)
            for type_name in sorted(service.metadata.emits.keys() | service.metadata.events.keys()):
                self._emitted(service, type_name)
        if any(service.endpoints for service in services):
            self._messages["Error"] = {
                "name": "Error",
                "summary": "An error. Every operation may reply with those in x-errors.",
                "contentType": _JSON,
                "headers": ERROR,
                "payload": error_schema([]),
                **_present({"x-errors": _kinds(common)}),
            }
        for service in services:
            for reaction in service.metadata.reacts:
                self._reaction(service, reaction)

    def data(self, title: Title, host: str) -> dict[str, Any]:
        """Return the document."""
        return {
            "asyncapi": VERSION,
            "info": {"title": title.title, "version": title.version, "description": title.description},
            "defaultContentType": _JSON,
            "servers": {"nats": {"host": host, "protocol": "nats"}},
            "channels": dict(sorted(self._channels.items())),
            "operations": dict(sorted(self._operations.items())),
            "components": {
                "messages": dict(sorted(self._messages.items())),
                "messageTraits": {"CloudEvents": {"headers": CLOUDEVENTS}, "Request": {"headers": REQUEST}},
                "schemas": self._schemas.schemas,
            },
        }

    def _request(self, service: Service, endpoint: Endpoint) -> None:
        """Add a query or command with its reply. NATS has the subject of a reply in no header, so the reply has no address."""
        metadata, ident = endpoint.metadata, operation_id(service, endpoint)
        name = metadata.types[0] if metadata.types else endpoint.name
        request = self._message(ident, name, service.name, metadata.request, metadata.description, "Request")
        reply = self._message(f"{ident}.reply", f"Reply of {name}", service.name, metadata.response)
        self._channel(ident, endpoint.subject, {"request": request})
        self._channels[f"{ident}.reply"] = {
            "address": None,
            "messages": {"error": {"$ref": "#/components/messages/Error"}, "reply": {"$ref": reply}},
        }
        operation = self._operation("receive", service, ident, ["request"], metadata.description)
        operation["reply"] = {
            "channel": {"$ref": f"#/channels/{ident}.reply"},
            "messages": [{"$ref": f"#/channels/{ident}.reply/messages/{each}"} for each in ("error", "reply")],
        }
        if queue_group_known(service):
            operation["bindings"] = {"nats": {"queue": QUEUE, "bindingVersion": "0.1.0"}}
        operation |= _present({"x-kind": metadata.op, "x-key": metadata.key, "x-errors": _kinds(metadata.errors)})
        self._operations[ident] = operation

    def _emitted(self, service: Service, type_name: str) -> None:
        event = service.metadata.events.get(type_name, EventMetadata("", ""))
        channel = self._event(
            service.name, type_name, event.subject, event.description, service.metadata.emits.get(type_name)
        )
        self._channels[channel] |= _jetstream(event.stream, event.filter)
        ident = safe(f"{service.name}.emit.{channel.rpartition('.')[2]}")
        self._operations[ident] = self._operation("send", service, channel, ["event"], event.description)
        self._operations[ident] |= _present({"x-key": event.key})

    def _reaction(self, service: Service, reaction: Reaction) -> None:
        channel = self._event(reaction.source, reaction.event, reaction.subject, "", None)
        if "x-jetstream" not in self._channels[channel]:
            self._channels[channel] |= _jetstream(reaction.stream, reaction.filter)
        ident = reaction_id(service.name, reaction)
        self._operations[ident] = self._operation("receive", service, channel, ["event"], reaction.description)
        self._operations[ident] |= _present({"x-where": reaction.where})

    def _event(self, source: str, type_name: str, subject: str, description: str, schema: Schema | None) -> str:
        """Add the channel of an event if it is not there yet, and return its id."""
        ident = event_id(source, subject, type_name)
        if ident not in self._channels:
            message = self._message(ident, type_name, source, schema, description, "CloudEvents")
            self._channel(ident, subject, {"event": message})
        return ident

    def _channel(self, ident: str, subject: str, messages: dict[str, str]) -> None:
        place, parameters = address(subject)
        self._channels[ident] = {
            "address": place or None,
            "messages": {name: {"$ref": ref} for name, ref in messages.items()},
            **_present({"parameters": {name: {"description": text} for name, text in parameters.items()}}),
        }

    def _message(
        self, ident: str, name: str, owner: str, schema: Schema | None, description: str = "", trait: str = ""
    ) -> str:
        """Add a message, and return the reference to it."""
        self._messages[ident] = {
            "name": name,
            **_present({"summary": description}),
            "contentType": _JSON,
            **({"payload": self._schemas.use(owner, schema)} if schema is not None else {}),
            **({"traits": [{"$ref": f"#/components/messageTraits/{trait}"}]} if trait else {}),
        }
        return f"#/components/messages/{ident}"

    @staticmethod
    def _operation(action: str, service: Service, channel: str, messages: list[str], summary: str) -> dict[str, Any]:
        return {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "messages": [{"$ref": f"#/channels/{channel}/messages/{each}"} for each in messages],
            **_present({"summary": summary}),
            "tags": [{"name": service.name}],
        }


def _kinds(errors: list[ErrorKind]) -> list[dict[str, Any]]:
    """Return kinds of errors as data, each once, sorted by code."""
    kinds = sorted({(each.code, each.kind, each.description) for each in errors})
    return [{"code": code, "kind": kind, "description": text} for code, kind, text in kinds]


def _jetstream(stream: str, filter: str) -> dict[str, Any]:
    return _present({"x-jetstream": _present({"stream": stream, "filter": filter})})


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that are not empty."""
    return {name: value for name, value in fields.items() if value}
