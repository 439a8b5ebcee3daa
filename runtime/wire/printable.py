"""Text for a terminal: the characters that would control the terminal, or hide or reorder text, are written as escapes."""

import re

_UNSAFE = (
    r"\x00-\x08\x0a-\x1f\x7f-\x9f"  # control characters, among them ESC and its one-byte forms (C1)
    r"\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # no width, other direction, line ends
    r"\ud800-\udfff\U000e0000-\U000e007f"  # lone surrogates, tags
)
_replace = re.compile(f"[{_UNSAFE}]").sub

lone_surrogate = re.compile("[\ud800-\udfff]").search
"""Find half of a character, which UTF-8 cannot encode. Python decodes a byte of an argument that is not UTF-8 to one."""


def printable(text: str, *, lines: bool = False) -> str:
    """Return a text in which each unsafe character is an escape, as in a Python string: ``\\x1b``, ``\\u202e``.

    Args:
        text: The text. It may come from anywhere.
        lines: Whether line feeds stay. A text from outside could otherwise look like several lines of ours.
    """
    return "\n".join(printable(line) for line in text.split("\n")) if lines else _replace(_escape, text)


def printable_json(text: str) -> str:
    """Return a JSON text in which each unsafe character in a string is an escape of JSON. Its value is the same."""
    return _replace(_escape_json, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _escape_json(match: re.Match[str]) -> str:
    if match[0] == "\n":
        return match[0]  # between values: JSON has no raw line feed in strings
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
