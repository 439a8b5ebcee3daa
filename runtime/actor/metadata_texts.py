"""The description of an actor as metadata of NATS micro (ADR-32 of NATS): texts by name.

The host writes the texts, and `runtime.admin.discovery` reads them. Schemas and lists are JSON. A reader accepts the texts of
any service: a missing or malformed text leaves the default of its field.

Texts of a service: ``runtime``, ``keyed`` (``true`` or ``false``), ``namespace``, ``partitions`` (if there are several), ``remember`` (seconds), and as JSON ``emits`` (schemas by
CloudEvents type), ``events`` (subject, stream, key and description by type), ``reacts`` (a list of reactions), ``streams``
(names by content) and ``errors`` (a list of kind, code and description). Texts of an endpoint: ``op``, ``request`` and
``response`` (JSON Schemas), ``key``, ``types`` (JSON: list of class names), ``description`` and ``errors`` (JSON). Empty texts
are omitted.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from runtime.actor.error_kinds import ErrorKind
from runtime.actor.metadata import EventMetadata, OperationMetadata, Reaction, ServiceMetadata

T = TypeVar("T")


def write_service(metadata: ServiceMetadata) -> dict[str, str]:
    """Return the texts of a service."""
    texts = {
        "runtime": metadata.runtime,
        "keyed": "true" if metadata.keyed else "false",
        "namespace": metadata.namespace,
        "partitions": _json(metadata.partitions) if metadata.partitions != 1 else "",
        "remember": _json(metadata.remember) if metadata.remember else "",
        "emits": _json(metadata.emits) if metadata.emits else "",
        "events": _json(metadata.events) if metadata.events else "",
        "reacts": _json(metadata.reacts) if metadata.reacts else "",
        "streams": _json(metadata.streams) if metadata.streams else "",
        "errors": _json(metadata.errors) if metadata.errors else "",
    }
    return _without_empty(texts)


def read_service(texts: Mapping[str, str]) -> ServiceMetadata:
    """Return the description that the texts of a service contain."""
    partitions = _decode(texts.get("partitions", ""), int)
    return ServiceMetadata(
        runtime=texts.get("runtime", ""),
        keyed=texts.get("keyed") == "true",
        namespace=texts.get("namespace", ""),
        partitions=1 if partitions is None else partitions,
        remember=_decode(texts.get("remember", ""), float) or 0.0,
        emits=_decode(texts.get("emits", ""), dict[str, dict[str, Any]]) or {},
        events=_decode(texts.get("events", ""), dict[str, EventMetadata]) or {},
        reacts=_decode(texts.get("reacts", ""), list[Reaction]) or [],
        streams=_decode(texts.get("streams", ""), dict[str, str]) or {},
        errors=_decode(texts.get("errors", ""), list[ErrorKind]) or [],
    )


def write_operation(metadata: OperationMetadata) -> dict[str, str]:
    """Return the texts of a query's or command's endpoint."""
    texts = {
        "op": metadata.op,
        "request": _json(metadata.request) if metadata.request is not None else "",
        "response": _json(metadata.response) if metadata.response is not None else "",
        "key": metadata.key,
        "types": _json(metadata.types) if metadata.types else "",
        "description": metadata.description,
        "errors": _json(metadata.errors) if metadata.errors else "",
    }
    return _without_empty(texts)


def read_operation(texts: Mapping[str, str]) -> OperationMetadata:
    """Return the description that the texts of an endpoint contain."""
    return OperationMetadata(
        op=texts.get("op", ""),
        request=_decode(texts.get("request", ""), dict[str, Any]),
        response=_decode(texts.get("response", ""), dict[str, Any]),
        key=texts.get("key", ""),
        types=_decode(texts.get("types", ""), list[str]) or [],
        description=texts.get("description", ""),
        errors=_decode(texts.get("errors", ""), list[ErrorKind]) or [],
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _decode(text: str, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def _without_empty(texts: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in texts.items() if text}
