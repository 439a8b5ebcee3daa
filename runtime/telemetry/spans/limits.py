"""The limits of a span. They bound the memory that one handler can use."""

from collections.abc import Mapping

import msgspec
from opentelemetry.util.types import AttributeValue


class SpanLimits(msgspec.Struct, frozen=True):
    """The largest numbers of a span's parts. The defaults are those of the specification."""

    attributes: int = 128
    events: int = 128
    links: int = 128
    event_attributes: int = 128
    """Attributes of each event."""
    link_attributes: int = 128
    """Attributes of each link."""
    value_length: int | None = None
    """Characters or bytes of a value; longer ones are cut. None for no limit."""

    def value(self, value: AttributeValue) -> AttributeValue:
        """Return the value of an attribute, cut to the limit. A list becomes a tuple, which its sender cannot change."""
        if isinstance(value, list):
            value = tuple(value)
        longest = self.value_length
        if longest is None:
            return value
        if isinstance(value, str | bytes):
            return value[:longest]
        if isinstance(value, tuple):
            return tuple(each[:longest] if isinstance(each, str | bytes) else each for each in value)
        return value

    def bounded(self, attributes: Mapping[str, AttributeValue] | None, count: int) -> dict[str, AttributeValue]:
        """Return the first `count` attributes, with their values cut to the limit."""
        if not attributes:
            return {}
        if len(attributes) <= count and self.value_length is None:
            return dict(attributes)
        return {key: self.value(value) for key, value in list(attributes.items())[:count]}
