"""The wire format of Protocol Buffers, as needed by the OTLP encoder: tags, varints and length-delimited fields."""

from typing import Final

VARINT: Final = 0
"""Wire type of integers, booleans and enums."""
FIXED64: Final = 1
"""Wire type of 64-bit integers and doubles of eight bytes, little-endian."""
LENGTH_DELIMITED: Final = 2
"""Wire type of strings, bytes and messages; the length in bytes precedes them as a varint."""
FIXED32: Final = 5
"""Wire type of 32-bit integers of four bytes, little-endian."""


def tag(number: int, wire_type: int) -> bytes:
    """Return the tag that precedes a field's value."""
    return varint(number << 3 | wire_type)


def field(number: int, payload: bytes) -> bytes:
    """Return a length-delimited field. The number must be below 16, so that its tag is one byte."""
    return bytes((number << 3 | LENGTH_DELIMITED,)) + varint(len(payload)) + payload


def text(number: int, value: str) -> bytes:
    """Return a string field; characters that UTF-8 cannot encode become "?"."""
    return field(number, value.encode("utf-8", "replace"))


def varint(value: int) -> bytes:
    """Return an unsigned integer in groups of seven bits, the lowest first."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
