"""An event as CloudEvents 1.0 over HTTP, from the headers and the body that a stream stores.

Source: the JSON event format, and the HTTP protocol binding, version 1.0.2.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

import msgspec

from runtime.errors import CodecError
from runtime.router.inputs import Occurrence
from runtime.wire import header_block
from runtime.wire.cloudevents import encode_attribute, is_structured, read_structured
from runtime.wire.codec import UNDECODABLE

STRUCTURED_TYPE: Final = "application/cloudevents+json; charset=utf-8"
"""The content type of structured mode."""

JSON_TYPE: Final = "application/json"
"""The content type of the data."""

_PREFIX = "ce-"
_DATA = ("data", "data_base64")
_JSON = msgspec.json.Decoder()
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VALUE = msgspec.json.Decoder(str | int | bool | None)


class CloudEvent(msgspec.Struct, frozen=True):
    """An event: its attributes, and its data as JSON."""

    attributes: dict[str, str | int | bool]
    """The attributes by name: specversion, id, source, type, and others such as time, subject and extensions."""
    data: bytes
    """The data as JSON, as it is stored."""
    body: object
    """The decoded data."""

    def occurrence(self, *, key: str | None, rule: str, target: str) -> Occurrence:
        """Return the event for one target of one rule, for the paths of an input; see `Occurrence`."""
        return Occurrence(attributes=self.attributes, body=self.body, key=key, rule=rule, target=target)

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


def read_event(block: bytes | None, body: bytes, defaults: Mapping[str, str]) -> CloudEvent:
    """Return the event of a stored message, in either mode of CloudEvents.

    Args:
        block: The header block.
        body: The body: JSON; empty for an event without data, which gets an empty object.
        defaults: Attributes for a message that lacks them, as those of a publisher without CloudEvents: id, source, type and time.

    Raises:
        CodecError: The body is not JSON, or not an event in structured mode.
    """
    attributes: dict[str, str | int | bool]
    if is_structured(block):
        data = read_structured(block, body).payload()
        attributes = {
            name: value for name, raw in _OBJECT.decode(body).items() if (value := _attribute(name, raw)) is not None
        }
    else:
        data = body or b"{}"
        attributes = {
            name[len(_PREFIX) :].lower(): unquote(value)
            for name, value in header_block.parse(block).items()
            if name.lower().startswith(_PREFIX)
        }
    try:
        decoded = _JSON.decode(data)
    except UNDECODABLE as error:
        raise CodecError(f"the data of the event is not JSON: {error}") from None
    return CloudEvent({**defaults, **attributes, "specversion": "1.0"}, data, decoded)


def _attribute(name: str, raw: msgspec.Raw) -> str | int | bool | None:
    """Return the value of an attribute; None if the member is the data or null."""
    if name in _DATA:
        return None
    try:
        return _VALUE.decode(raw)
    except msgspec.ValidationError:
        raise CodecError(f"the attribute {name[:80]!r} of the event is not a text, an integer or a boolean") from None


def _text(value: str | int | bool) -> str:
    """Return the text of an attribute, as CloudEvents defines it."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
