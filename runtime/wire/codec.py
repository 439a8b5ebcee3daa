"""Bytes to typed values and back: JSON by default, MessagePack where the content type says so.

Decoding is strict and its decoders are made once per type. Every failure of it, whatever msgspec raises (`ValidationError`,
`DecodeError`, `UnicodeDecodeError`, `RecursionError`), becomes one `CodecError` that names the field.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, get_args, get_origin

import msgspec

from runtime.errors import CodecError, DeclarationError

T = TypeVar("T")

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
_MSGPACK_NAMES: Final = frozenset({MSGPACK, "application/x-msgpack", "application/vnd.msgpack"})

_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()

encode: Callable[[Any], bytes] = _json.encode
"""Return a value as JSON bytes; no look-up, no options: the hot path calls msgspec itself."""

encode_msgpack: Callable[[Any], bytes] = _msgpack.encode

UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that do not fit."""

UNENCODABLE: Final = (OverflowError, TypeError, ValueError, RecursionError)
"""What msgspec raises for values that have no bytes: MessagePack's integers end at 64 bits, JSON's at 4300 digits."""


class Codec(Generic[T]):
    """Decodes one type from either format. An empty body reads as ``{}``."""

    __slots__ = ("decode_json", "decode_msgpack", "type")

    def __init__(self, kind: Any) -> None:
        check_type(kind)
        self.type = kind
        self.decode_json: Callable[[bytes], T] = msgspec.json.Decoder(kind).decode
        self.decode_msgpack: Callable[[bytes], T] = msgspec.msgpack.Decoder(kind).decode

    def decode(self, payload: bytes, content_type: str | None = None) -> T:
        """Return the value in `payload`; raises `CodecError` with msgspec's text, which names the field."""
        try:
            if content_type is None or content_type == JSON:
                return self.decode_json(payload or b"{}")
            if is_msgpack(content_type):
                return self.decode_msgpack(payload or b"\x80")
            return self.decode_json(payload or b"{}")
        except UNDECODABLE as error:
            raise CodecError(explain(error)) from None


def is_msgpack(content_type: str | None) -> bool:
    """Whether a content type is MessagePack; raises `CodecError` for one that we cannot read."""
    if content_type is None:
        return False
    bare = content_type.partition(";")[0].strip().lower()
    if bare in _MSGPACK_NAMES:
        return True
    if bare == JSON or bare == "" or bare.endswith("+json"):
        return False
    raise CodecError(f"Content-Type {content_type[:80]!r} is not supported: send {JSON} or {MSGPACK}")


def explain(error: Exception) -> str:
    """Return what a decoding error says to the sender of the bytes: the field and the fault, nothing internal."""
    if isinstance(error, RecursionError):
        return "the body is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "the body is not valid UTF-8"
    return str(error)


def check_type(kind: Any) -> None:
    """Raise `DeclarationError` for a type that is dangerous on the wire.

    An integer-keyed dict is: its keys' hashes are the sender's choice, and collisions cost quadratic time.
    """
    _check(kind, set())


def _check(kind: Any, seen: set[int]) -> None:
    if id(kind) in seen:
        return
    seen.add(id(kind))
    arguments = get_args(kind)
    if get_origin(kind) is dict and arguments and {int, float} & {arguments[0], *get_args(arguments[0])}:
        raise DeclarationError(f"{kind} on the wire is a hash-collision bomb: use string keys")
    for argument in arguments:
        _check(argument, seen)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            _check(field.type, seen)


def schemas(kinds: list[Any], prefix: str = "#/$defs/") -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the JSON Schemas of `kinds` and the definitions they refer to."""
    return msgspec.json.schema_components(kinds, ref_template=prefix + "{name}")  # type: ignore[return-value]


def schema(kind: Any) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one type, complete in itself."""
    return msgspec.json.schema(kind)
