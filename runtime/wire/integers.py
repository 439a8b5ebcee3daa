"""Integers in JSON that are written as ``200.0`` or ``1e2``: JSON Schema counts them as integers, and msgspec does not."""

import re
from typing import Any

from msgspec import inspect

from runtime.wire.regex import parts_of

_SKIPPED = rb'(?:"(?:[^"\\]++|\\.?)*+(?:"|\Z)|[^"\d-]++|-(?!\d)|-?\d++(?![\d.eE+-]))*+'
"""What holds no number to rewrite: strings, punctuation, and plain integers. It never gives back what it has matched, and a
string without an end ends with the text: the time is linear in the length of the text, whatever is in it."""

_NUMBER = re.compile(
    rb"(%b)(?:(-?)(\d++)(?:\.(\d++))?(?:[eE]([+-]?\d{1,9}))?(?![\d.eE+-])|(?:.|\Z))" % _SKIPPED, re.DOTALL
)
"""What may be skipped, and a number: its sign, its digits before and behind the point, and its exponent.

A text that is no JSON has other characters in place of a number. One of them is matched, so that the search goes on behind it.
"""

_MOST = 10_000
"""The numbers that are rewritten in one body. A body with more of them would hold the event loop for too long."""

_MAX_DIGITS = 309
"""The digits of the largest number that a double can hold."""

_MAX_GROWTH = 65_536
"""The bytes by which the body may grow. A sender could write a hundred-fold body with exponents otherwise."""


def has_integers(kind: Any) -> bool:
    """Return whether a type contains integers."""
    return any(
        isinstance(each, inspect.IntType)
        or (isinstance(each, inspect.EnumType) and any(isinstance(member.value, int) for member in each.cls))
        or (isinstance(each, inspect.LiteralType) and any(isinstance(value, int) for value in each.values))
        for each in parts_of(inspect.type_info(kind), set())
    )


def with_plain_integers(payload: bytes) -> bytes | None:
    """Return a JSON text with its integral numbers written as plain integers; None if it has no such number.

    Only a body that does not fit its type is read by this function, so other bodies cost nothing.
    """
    room = _MAX_GROWTH
    found = False

    def plain(match: re.Match[bytes]) -> bytes:
        nonlocal room, found
        skipped, sign, digits, fraction, exponent = match.groups()
        if digits is None or (fraction is None and exponent is None):
            return match[0]
        fraction = (fraction or b"").rstrip(b"0")
        digits = (digits + fraction).lstrip(b"0")
        zeros = int(exponent or b"0") - len(fraction)
        if zeros < 0 and digits:
            if digits[zeros:].strip(b"0"):
                return match[0]
            digits, zeros = digits[:zeros], 0
        if not digits:
            digits, zeros = b"0", 0
        if len(digits) + zeros > _MAX_DIGITS or (room := room - zeros) < 0:
            return match[0]
        found = True
        return b"%b%b%b%b" % (skipped, sign, digits, b"0" * zeros)

    text = _NUMBER.sub(plain, payload, _MOST)
    return text if found else None
