"""Keys and ids as tokens of subjects.

Some characters of a key would divide a subject, or be wildcards. They are percent-encoded, so each key has one token.
"""

import re
from typing import Final

from runtime.errors import CodecError

NO_KEY: Final = "_"
"""The key token of a message that has no key."""

MAX_TOKEN: Final = 1024
"""The longest key token, in bytes. A subject holds two at most; the server ends a connection for a line above 4096."""

_CLASS = r"[A-Za-z0-9_\-=+@,;:]"
KEY_TIERS: Final = (
    (MAX_TOKEN // 12, None),
    (MAX_TOKEN // 9, r"[\u0000-\uffff]"),
    (MAX_TOKEN // 6, r"[\u0000-\u07ff]"),
    (MAX_TOKEN // 3, r"[\u0000-\u007f]"),
    (MAX_TOKEN, _CLASS),
)
"""The length of a key in characters, by the class that all of its characters belong to (None: any character).

No token of such a key is longer than `MAX_TOKEN`. A JSON Schema can state these lengths, but not the length of the token.
"""

_PLAIN = re.compile(_CLASS + r"+\Z").match
_TOKEN = re.compile(r"[A-Za-z0-9_\-=+@,;:%]+\Z").match
_KEEP: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-=+@,;:")


def key_token(key: str) -> str:
    """Return a key as one token of a subject. Characters other than letters, digits and ``_-=+@,;:`` are percent-encoded.

    The empty key becomes ``%``, which is the token of no other key. The key ``_`` is encoded too, since that token means
    *no key*.

    Raises:
        CodecError: The key is longer than `KEY_TIERS` permit.
    """
    if len(key) <= _SHORT and key != NO_KEY and _PLAIN(key):
        return key
    if len(key) > _SHORT and not _fits(key):
        raise CodecError(
            f"the key {key[:40]!r}… is too long: at most {MAX_TOKEN} letters, digits and _-=+@,;:, {MAX_TOKEN // 3} ASCII "
            f"characters, or {_SHORT} characters of any kind"
        )
    return token_of(key)


def token_of(text: str) -> str:
    """Return a text that is not a key, such as an id, as one token of a subject. Its form is that of `key_token`.

    Raises:
        CodecError: The token would be longer than `MAX_TOKEN`.
    """
    if not text:
        return "%"
    if text == NO_KEY:
        return "%5F"
    if len(text) <= MAX_TOKEN and _PLAIN(text):
        return text
    # JSON strings may contain a lone surrogate. It must survive the round trip.
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > MAX_TOKEN or len(token := _encoded(data)) > MAX_TOKEN:
        raise CodecError(f"{text[:40]!r}… is too long for a subject: encoded, more than {MAX_TOKEN} bytes")
    return token


_SHORT: Final = KEY_TIERS[0][0]


def _fits(key: str) -> bool:
    if key.isascii():
        return len(key) <= MAX_TOKEN // 3 or (len(key) <= MAX_TOKEN and _PLAIN(key) is not None)
    last = max(key)
    return len(key) <= (MAX_TOKEN // 6 if last < "\u0800" else MAX_TOKEN // 9 if last < "\U00010000" else _SHORT)


def _encoded(data: bytes) -> str:
    return "".join([_ENCODED[byte] for byte in data])


_ENCODED: Final = [chr(byte) if byte in _KEEP else f"%{byte:02X}" for byte in range(256)]
"""The text for each byte in a token."""


def token_key(token: str) -> str:
    """Return the key of a token of `key_token`. Raises `CodecError` if it is no such token."""
    if token == "%":
        return ""
    if "%" not in token:
        return token
    head, *rest = token.split("%")
    data = bytearray(head.encode())
    try:
        for part in rest:
            data.append(int(part[:2], 16))
            data += part[2:].encode()
        return data.decode("utf-8", "surrogatepass")
    except ValueError:
        raise CodecError(f"{token[:80]!r} is not the token of a key") from None


def is_token(text: str) -> bool:
    """Return whether a text can be the token of a key."""
    return 0 < len(text) <= MAX_TOKEN and _TOKEN(text) is not None


def readable_key(token: str) -> str:
    """Return the key of a token for a log line; the token itself if it is not one of `key_token`."""
    try:
        return token_key(token)
    except CodecError:
        return token
