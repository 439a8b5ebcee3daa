"""Contracts as plain JSON: the services as Actorloom itself describes them, and the reader of that form.

``{"actorloom": 1, "services": [...]}``. A service has its name, version, description, metadata and endpoints. Facts of an
instance (its id, its partitions and the time for which it remembers messages) are left out.
"""

from typing import Any, Final

import msgspec

from runtime.admin.discovery import Endpoint, Service
from runtime.errors import ConfigurationError

FORM: Final = 1
"""The version of the form."""

_OF_INSTANCE: Final = ("partitions", "remember")


class _Document(msgspec.Struct):
    actorloom: int
    services: list[dict[str, Any]]


def document(services: list[Service]) -> dict[str, Any]:
    """Return the contracts of services as data for JSON, sorted by name, with endpoints sorted by subject."""
    return {"actorloom": FORM, "services": [_service(each) for each in sorted(services, key=lambda each: each.name)]}


def write_json(document: dict[str, Any]) -> bytes:
    """Return a document as indented JSON with a newline at its end. Names keep the order of the document."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def read(text: bytes, place: str) -> list[Service]:
    """Return the services of a document of this form.

    Args:
        text: The document.
        place: Its name in error texts: a file.

    Raises:
        ConfigurationError: The text is no document of this form. The error names the field.
    """
    try:
        found = msgspec.json.decode(text, type=_Document)
        if found.actorloom != FORM:
            raise ConfigurationError(f"{place}: actorloom = {found.actorloom}: this version reads form {FORM}")
        return msgspec.convert([{"id": "", **each} for each in found.services], list[Service])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{place}: not contracts in JSON, as `contracts export --format json` writes: {error}"
        ) from None


def _service(service: Service) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(service)
    del data["id"]
    data["metadata"] = {name: value for name, value in data["metadata"].items() if name not in _OF_INSTANCE}
    data["endpoints"] = msgspec.to_builtins(by_subject(service))
    return data


def by_subject(service: Service) -> list[Endpoint]:
    """Return the endpoints of a service in the order of documents."""
    return sorted(service.endpoints, key=lambda each: (each.subject, each.name))
