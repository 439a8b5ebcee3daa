"""OpenAPI 3.1 documents: each query and command as a path, for gateways and for generators of clients.

The paths are those of a gateway that takes ``POST /<actor>/<operation>`` and sends the body on the subject of the operation, which is
``x-nats-subject``. Actors themselves serve no HTTP. An error reply has the code of its kind as status.
"""

from collections import defaultdict
from typing import Any, Final

from runtime.actor.error_kinds import ErrorKind
from runtime.admin.discovery import Endpoint, Service
from runtime.contracts.components import Components, schemas_of
from runtime.contracts.headers import error_schema
from runtime.contracts.plain import by_subject
from runtime.contracts.subjects import operation_id, safe
from runtime.contracts.title import Title
from runtime.wire.schemas import Schema

VERSION: Final = "3.1.0"
"""The version of OpenAPI."""

_STATUS: Final = range(100, 600)


def document(services: list[Service], title: Title) -> dict[str, Any]:
    """Return the OpenAPI document of the queries and commands of services of one namespace, as data for JSON.

    Args:
        services: The services, one of each name, in any order.
        title: The title and version of the document.
    """
    services = sorted(services, key=lambda each: each.name)
    schemas = Components(schemas_of(services), "#/components/schemas/")
    paths: dict[str, Any] = {}
    responses: dict[str, Any] = {}
    for service in services:
        for endpoint in by_subject(service):
            paths[_path(paths, service, endpoint)] = {"post": _operation(service, endpoint, schemas, responses)}
    return {
        "openapi": VERSION,
        "info": {"title": title.title, "version": title.version, "description": title.description},
        "tags": [{"name": each.name, "description": each.description} for each in services],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": schemas.schemas, "responses": dict(sorted(responses.items()))},
    }


def _path(taken: dict[str, Any], service: Service, endpoint: Endpoint) -> str:
    """Return the path of an operation. It has the kind only if a query and a command have the same name."""
    plain = f"/{safe(service.name)}/{safe(endpoint.name)}"
    return plain if plain not in taken else f"/{operation_id(service, endpoint).replace('.', '/')}"


def _operation(service: Service, endpoint: Endpoint, schemas: Components, responses: dict[str, Any]) -> dict[str, Any]:
    metadata = endpoint.metadata
    operation: dict[str, Any] = {
        "operationId": operation_id(service, endpoint),
        "tags": [service.name],
        "summary": metadata.description,
        "x-nats-subject": endpoint.subject,
        "x-kind": metadata.op,
        "x-key": metadata.key,
    }
    operation = {name: value for name, value in operation.items() if value}
    request = schemas.use(service.name, metadata.request) if metadata.request is not None else {}
    operation["requestBody"] = {"required": True, "content": _content(request)}
    operation["responses"] = {"200": _reply(service, metadata.response, schemas)}
    for code, kinds in _by_code(metadata.errors + service.metadata.errors).items():
        operation["responses"][code] = _error(kinds, responses)
    return operation


def _reply(service: Service, schema: Schema | None, schemas: Components) -> dict[str, Any]:
    if schema == {"type": "null"}:
        return {"description": "The operation has ended. The body is empty."}
    found = schemas.use(service.name, schema) if schema is not None else {}
    return {"description": "The reply.", "content": _content(found)}


def _error(kinds: list[ErrorKind], responses: dict[str, Any]) -> dict[str, Any]:
    """Return the response of some kinds of errors with one code: a reference, and the response added to `responses`."""
    texts = [f"{each.kind}: {each.description}" if each.description else each.kind for each in kinds]
    response = {"description": "\n\n".join(texts), "content": _content(error_schema(kinds))}
    name = safe(".".join(each.kind for each in kinds))
    if responses.setdefault(name, response) != response:
        return response  # two services have different errors of one name
    return {"$ref": f"#/components/responses/{name}"}


def _content(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _by_code(errors: list[ErrorKind]) -> dict[str, list[ErrorKind]]:
    """Return kinds of errors by status, sorted; ``default`` is for a code that is no status of HTTP."""
    found: dict[str, dict[str, ErrorKind]] = defaultdict(dict)
    for each in errors:
        found[str(each.code) if each.code in _STATUS else "default"].setdefault(each.kind, each)
    return {code: [kinds[kind] for kind in sorted(kinds)] for code, kinds in sorted(found.items())}
