"""A bundle of JSON Schemas (2020-12): one document with the schema of every message, and each shared type once."""

from typing import Any, Final

from runtime.admin.discovery import Service
from runtime.contracts.components import DEFS, Components, schemas_of
from runtime.contracts.plain import by_subject
from runtime.contracts.subjects import event_id, operation_id
from runtime.contracts.title import Title
from runtime.wire.schemas import Schema

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
"""The dialect of the bundle."""


def document(services: list[Service], title: Title) -> dict[str, Any]:
    """Return the bundle of the schemas of services of one namespace, as data for JSON.

    ``$defs`` has the types under their names, and the messages as ``orders.query.get_order``, ``orders.query.get_order.reply`` and
    ``orders.event.order_created``: ``<file>#/$defs/<name>`` is a reference to one.

    Args:
        services: The services, one of each name, in any order.
        title: The title and version of the document.
    """
    services = sorted(services, key=lambda each: each.name)
    components = Components(schemas_of(services), DEFS)
    messages: dict[str, Schema] = {}
    for service in services:
        for endpoint in by_subject(service):
            ident = operation_id(service, endpoint)
            for name, schema in ((ident, endpoint.metadata.request), (f"{ident}.reply", endpoint.metadata.response)):
                if schema is not None:
                    messages[name] = components.use(service.name, schema)
        for type_name, schema in service.metadata.emits.items():
            event = service.metadata.events.get(type_name)
            ident = event_id(service.name, event.subject if event is not None else "", type_name)
            messages[ident] = components.use(service.name, schema)
    return {
        "$schema": DIALECT,
        "title": title.title,
        "description": title.description,
        "$defs": dict(sorted((components.schemas | messages).items())),
    }
