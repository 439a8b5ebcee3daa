"""An event as CloudEvents 1.0 over HTTP.

Source: the JSON event format, and the HTTP protocol binding, version 1.0.2.
"""

from typing import Final

import msgspec

from runtime.wire.cloudevents import encode_attribute

STRUCTURED_TYPE: Final = "application/cloudevents+json; charset=utf-8"
"""The content type of structured mode."""

JSON_TYPE: Final = "application/json"
"""The content type of the data."""

_PREFIX = "ce-"


class CloudEvent(msgspec.Struct, frozen=True):
    """An event: its attributes, and its data as JSON."""

    attributes: dict[str, str | int | bool]
    """The attributes by name: specversion, id, source, type, and others such as time, subject and extensions."""
    data: bytes
    """The data as JSON."""

    def structured(self) -> bytes:
        """Return the event in structured mode: one JSON object. Its content type is `STRUCTURED_TYPE`."""
        return msgspec.json.encode({**self.attributes, "data": msgspec.Raw(self.data)})

    def binary_headers(self) -> dict[str, str]:
        """Return the headers of binary mode. The body is `data`; ``datacontenttype`` is the header Content-Type."""
        headers = {
            f"{_PREFIX}{name}": encode_attribute(_text(value))
            for name, value in self.attributes.items()
            if name != "datacontenttype"
        }
        return {**headers, "Content-Type": _text(self.attributes.get("datacontenttype", JSON_TYPE))}


def _text(value: str | int | bool) -> str:
    """Return the text of an attribute, as CloudEvents defines it."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
