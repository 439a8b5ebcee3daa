"""The records of an actor as lines of JSON: written by an export, edited by people, and read by an import.

Each line has the sequence of its record, and a digest of itself. By the sequence, an import finds out whether the record has changed
since. By the digest, it knows the lines that nobody has edited, also if the actor has changed their records meanwhile.
"""

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import Annotated, Any

import msgspec

from runtime.admin.stored import StoredRecord
from runtime.errors import CodecError, ConfigurationError
from runtime.storage.record import Handled
from runtime.wire.codec import UNDECODABLE
from runtime.wire.tokens import key_token

_Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Remembered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A handled message; see `Handled`."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    time: float
    reply: msgspec.Raw
    fingerprint: str


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One record. An import stores `version`, `state` and `remembered`."""

    key: str
    sequence: _Natural
    """The sequence of the record; 0 for a key that has none, and that an import creates."""
    version: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    """The version of the state."""
    state: msgspec.Raw
    """``null`` for a key without a state."""
    remembered: list[Remembered] = []
    """The handled messages in the record, oldest first. Others have left it, and stay where they are."""
    digest: str = ""


class InvalidLine(ConfigurationError):
    """A line cannot be imported. Nothing has changed."""


_decode = msgspec.json.Decoder(Line).decode
_encode = msgspec.json.Encoder().encode


def line_of(found: StoredRecord) -> bytes:
    """Return the line of a record, without a line end.

    Raises:
        CodecError: JSON cannot contain its key, or the state is no JSON.
    """
    record = found.record
    remembered = [Remembered(each.id, each.time, each.reply, each.fingerprint) for each in record.handled]
    line = Line(found.key, found.message.sequence, record.state_version, record.state, remembered)
    try:
        return _encode(msgspec.structs.replace(line, digest=_digest(_encode(line))))
    except UnicodeEncodeError as error:
        raise CodecError(f"{found.message.subject}: JSON cannot contain the key: {error}") from None
    except (ValueError, RecursionError) as error:
        raise CodecError(f"{found.message.subject}: the state cannot be read: {error}") from None


def read_lines(texts: Iterable[bytes]) -> tuple[list[tuple[int, Line]], int]:
    """Return the lines that were edited, each with its number from 1 on, and the number of all other lines.

    Empty lines are left out.

    Raises:
        InvalidLine: A line is no record, or two edited lines have the same key. The text names the line and the field.
    """
    edited: dict[str, tuple[int, Line]] = {}
    others = 0
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            line = _decode(text)
            digest = _digest(text)
            if line.digest == digest:
                others += 1
                continue
            key_token(line.key)
        except (*UNDECODABLE, ValueError, CodecError) as error:  # Python reads no integer with more than 4300 digits
            raise InvalidLine(f"line {number} is no record: {error}") from None
        if line.key in edited:
            raise InvalidLine(f"lines {edited[line.key][0]} and {number} have the same key {line.key!r}")
        edited[line.key] = number, line
    return list(edited.values()), others


def handled_of(line: Line) -> list[Handled]:
    """Return the handled messages of a line, as a record has them."""
    return [Handled(each.id, each.reply, each.time, each.fingerprint) for each in line.remembered]


def same_json(one: bytes | msgspec.Raw, other: bytes | msgspec.Raw) -> bool:
    """Return whether two texts of JSON have the same value, whatever their spaces and the order of their fields."""
    return _canonical(json.loads(bytes(one))) == _canonical(json.loads(bytes(other)))


def _digest(text: bytes) -> str:
    """Return the digest of the values in a line, without the digest that it has."""
    values = json.loads(text)
    values.pop("digest", None)
    return blake2b(_canonical(values).encode(), digest_size=8).hexdigest()


def _canonical(value: Any) -> str:
    # The module of Python keeps all digits of an integer, and refuses one with more than 4300.
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
