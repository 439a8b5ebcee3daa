"""Bodies: bytes to typed values and back, in the formats of the table `FORMATS`. JSON is the default.

Decoding is strict, and each type has its decoders made once. Every failure to decode, whichever exception msgspec raises,
becomes one `CodecError` that names the field.
"""

from collections.abc import Callable
from types import UnionType
from typing import Any, Final, Generic, TypeVar, Union, get_args, get_origin

import msgspec

from runtime.errors import CodecError, DeclarationError, InvalidValue
from runtime.wire import header_block
from runtime.wire.integers import has_integers, with_plain_integers
from runtime.wire.regex import Check, pattern_check
from runtime.wire.type_parts import equal_if_exact, exact_type, has_sets, reads_null_as_value
from runtime.wire.value_faults import find_non_finite, find_unencodable

T = TypeVar("T")


class Format(msgspec.Struct, frozen=True, eq=False):
    """A format of bodies. To support another one, add it to `FORMATS`."""

    content_type: str
    """The value of `Content-Type` in replies."""
    names: frozenset[str]
    """The values of `Content-Type` that mean this format, in lower case and without parameters."""
    encode: Callable[[Any], bytes]
    make_decoder: Callable[[Any], Callable[[bytes], Any]]
    """Takes a type, and returns the function that decodes its values."""
    empty: bytes
    """The body that an empty request means: an object without fields."""

    @property
    def header_line(self) -> bytes:
        """The line of `Content-Type`, with its line end."""
        return header_block.line(header_block.CONTENT_TYPE, self.content_type.encode())


JSON: Final = Format(
    content_type="application/json",
    names=frozenset({"application/json", ""}),
    encode=msgspec.json.Encoder().encode,
    make_decoder=lambda kind: msgspec.json.Decoder(kind).decode,
    empty=b"{}",
)

MSGPACK: Final = Format(
    content_type="application/msgpack",
    names=frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"}),
    encode=msgspec.msgpack.Encoder().encode,
    make_decoder=lambda kind: msgspec.msgpack.Decoder(kind).decode,
    empty=b"\x80",
)

FORMATS: Final = (JSON, MSGPACK)
"""All formats."""

encode: Callable[[Any], bytes] = JSON.encode
"""Return a value as JSON. The hot path calls this function of msgspec directly."""

_encode_ordered = msgspec.json.Encoder(order="deterministic").encode


def encode_in_order(value: Any) -> bytes:
    """Return a value as JSON, with the items of sets and the keys of dicts in a fixed order, if Python can order them."""
    try:
        return _encode_ordered(value)
    except TypeError:
        return encode(value)


_NULL: Final = b"null"

UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The exceptions of msgspec for bytes that are not a value of the type."""

UNENCODABLE: Final = (OverflowError, TypeError, ValueError, RecursionError)
"""The exceptions of msgspec for values that it cannot encode: MessagePack's integers end at 64 bits, JSON's at 4300 digits."""


class Codec(Generic[T]):
    """Decodes the values of one type, from any format, and encodes those that the type itself can read.

    Args:
        kind: The type.
        repeatable: Encode equal values to equal bytes, also in different processes: a set has an order of its own in each. A
            command that is sent again must have the same body.

    Raises:
        DeclarationError: The type is dangerous on the wire (see `check_type`).
    """

    __slots__ = (
        "_checks_floats",
        "_decode_own",
        "_decoders",
        "_encode",
        "_equal_if_exact",
        "_exact",
        "_reads_null",
        "decode_first",
        "decode_json",
        "plain_type",
        "type",
    )

    def __init__(self, kind: Any, *, repeatable: bool = False) -> None:
        check_type(kind)
        self.type = kind
        self._decoders = {each: _decoder(kind, each) for each in FORMATS}
        self.decode_json: Callable[[bytes], T] = self._decoders[JSON]
        """Decodes JSON and raises the exceptions in `UNDECODABLE`, for the hot path."""
        self._decode_own = _with_patterns(JSON.make_decoder(kind), kind)
        """Decodes what `encode` writes: a float is no integer here, as it is in a body from elsewhere."""
        self.decode_first = self._decode_own
        """Decodes JSON, for the hot path. `decode` may take a body that this refuses, one with 2.0 for an integer."""
        self._encode = encode_in_order if repeatable and has_sets(kind) else encode
        self._exact = exact_type(kind)
        """The type whose own values have the declared fields only; None if those of all types have."""
        self._equal_if_exact = equal_if_exact(kind)
        """Whether comparing a value with the one that is read tells that both have the declared fields only.

        That takes half the time of encoding the value that is read, which certainly has no others."""
        self._reads_null = kind is None or kind is type(None)
        """Whether None is the only value, as of a handler that returns nothing. Its JSON needs no check."""
        self._checks_floats = reads_null_as_value(kind)
        """Whether a NaN would be read as None, so that the value that is read must be compared."""
        self.plain_type: type | None = None if self._checks_floats else self._exact
        """The type of the values that the hot path may encode by `encode`, if `decode_first` then reads the JSON.

        None if all values need `Codec.encode`."""

    def encode(self, value: T, role: str = "value") -> bytes:
        """Return a value as JSON that this type reads; see `read_back`."""
        if value is None and self._reads_null:
            return _NULL
        return self.read_back(value, role)[0]

    def read_back(self, value: T, role: str = "value") -> tuple[bytes, T]:
        """Return a value as JSON, and the value that this JSON is read as.

        msgspec checks the fields of a struct when it decodes one, not when the struct is made. A value that was encoded
        unseen could be unreadable for every receiver. A struct may have fields that its declared type does not have, if it is
        of a subclass: the JSON is without them. The decoding costs 0.1 µs for two fields and 0.5 µs for 200 bytes.

        Args:
            value: The value.
            role: The name of the value in the error text, such as ``state``.

        Raises:
            InvalidValue: The value cannot be encoded, or its type refuses the JSON. The text names the field.
        """
        try:
            body = self._encode(value)
            found = self._decode_own(body)
            if self._checks_floats and found != value and (fault := find_non_finite(value)) is not None:
                pass
            elif self._exact is None or type(value) is self._exact or (self._equal_if_exact and found == value):
                return body, found
            elif not isinstance(value, msgspec.Struct) or isinstance(value, type(found)):
                return self._encode(found), found
            else:
                fault = f"Expected `{type(found).__name__}`, got `{type(value).__name__}`"
        except Exception as error:  # decoding calls `__post_init__`, which is code of the application
            raise InvalidValue(f"{self._misfit(role)}: {_explain_value(value, error)}") from error
        raise InvalidValue(f"{self._misfit(role)}: {fault}")

    def encode_in(self, format: Format, value: T) -> bytes:
        """Return a value that `encode` has accepted in another format, without fields that its type does not have.

        Raises:
            InvalidValue: The format cannot express the value.
        """
        body = encode_reply(value, format)
        if self._exact is None or type(value) is self._exact:
            return body
        return encode_reply(self.decode(body, format), format)

    def _misfit(self, role: str) -> str:
        return f"the {role} does not fit {name_of(self.type)}"

    def decode(self, payload: bytes, format: Format = JSON) -> T:
        """Return the value of a body. An empty body means an object without fields.

        Raises:
            CodecError: The body is not a value of the type. The text names the field.
        """
        try:
            return self._decoders[format](payload or format.empty)
        except UNDECODABLE as error:
            raise CodecError(explain(error)) from None


def _decoder(kind: Any, format: Format) -> Callable[[bytes], Any]:
    """Return the function that decodes the values of a type. It is that of msgspec if that agrees with the JSON Schema."""
    decode = format.make_decoder(kind)
    if format is JSON and has_integers(kind):
        decode = _with_integral_floats(decode)
    return _with_patterns(decode, kind)


def _with_patterns(decode: Callable[[bytes], Any], kind: Any) -> Callable[[bytes], Any]:
    check = pattern_check(kind)
    return decode if check is None else _checked(decode, check)


def _with_integral_floats(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def decode_integers(payload: bytes) -> Any:
        try:
            return decode(payload)
        except msgspec.ValidationError:
            rewritten = with_plain_integers(payload)
            if rewritten is None:
                raise
        return decode(rewritten)

    return decode_integers


def _checked(decode: Callable[[bytes], Any], check: Check) -> Callable[[bytes], Any]:
    def decode_checked(payload: bytes) -> Any:
        value = decode(payload)
        check(value, "$")
        return value

    return decode_checked


def encode_reply(value: Any, format: Format) -> bytes:
    """Return a reply in a format other than JSON, the value of which its own type reads (`Codec.encode`).

    Raises:
        InvalidValue: The format cannot express the value.
    """
    try:
        return format.encode(value)
    except UNENCODABLE as error:
        raise InvalidValue(f"the reply does not fit {format.content_type}: {error}") from error


def format_of(content_type: str | None) -> Format:
    """Return the format that a `Content-Type` means; JSON if there is none.

    Raises:
        CodecError: The content type is not supported.
    """
    if content_type is None:
        return JSON
    bare = content_type.partition(";")[0].strip().lower()
    found = _BY_NAME.get(bare)
    if found is None and bare.endswith("+json"):
        return JSON
    if found is None:
        supported = " or ".join(each.content_type for each in FORMATS)
        raise CodecError(f"Content-Type {content_type[:80]!r} is not supported: send {supported}")
    return found


def format_in(block: bytes) -> Format:
    """Return the format of a reply by its header block. This is faster than `format_of`, and knows only our own replies."""
    for line, found in _OTHER_LINES:
        if line in block:
            return found
    return JSON


_OTHER_LINES = [(each.header_line, each) for each in FORMATS if each is not JSON]

_BY_NAME = {name: each for each in FORMATS for name in each.names}


def explain(error: Exception) -> str:
    """Return the text of a decoding error for the sender of the bytes: the field and the fault, and nothing internal."""
    if isinstance(error, RecursionError):
        return "the body is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "the body is not valid UTF-8"
    return str(error)


def _explain_value(value: Any, error: Exception) -> str:
    """Return the text of the error of a value that its own type refuses."""
    if isinstance(error, UNDECODABLE):
        return find_non_finite(value) or explain(error)
    if isinstance(error, UNENCODABLE):
        return f"{error} - at `{find_unencodable(value)}`"
    return repr(error)


def check_type(kind: Any) -> None:
    """Check that a type is safe on the wire.

    A dict with numbers as keys is not: the sender chooses the hashes of the keys, and collisions cost quadratic time.

    Raises:
        DeclarationError: The type is, or contains, such a dict, or it has a field whose type is not defined.
    """
    try:
        _check(kind, set())
    except NameError as error:
        raise undefined_type(name_of(kind), error) from None


def name_of(kind: Any) -> str:
    """Return the name of a type for error texts: ``Order``, ``Draft | Paid``, ``Basket[Item]``."""
    if kind is type(None):
        return "None"
    if get_origin(kind) in (Union, UnionType):
        return " | ".join(map(name_of, get_args(kind)))
    name = getattr(kind, "__name__", str(kind))
    arguments = get_args(kind) if isinstance(get_origin(kind), type) else ()
    return f"{name}[{', '.join(map(name_of, arguments))}]" if arguments else name


def undefined_type(name: str, error: NameError) -> DeclarationError:
    """Return the error of a type whose annotations contain an undefined name."""
    return DeclarationError(
        f"{name}: {error}; define the types of its fields at the top level of a module, before the actor, "
        "and import them at run time, not under TYPE_CHECKING"
    )


def _check(kind: Any, seen: set[int]) -> None:
    if id(kind) in seen:
        return
    seen.add(id(kind))
    arguments = get_args(kind)
    if get_origin(kind) is dict and arguments and {int, float} & {arguments[0], *get_args(arguments[0])}:
        raise DeclarationError(f"{kind} on the wire is a hash-collision bomb: use string keys")
    for argument in arguments:
        _check(argument, seen)
    struct = get_origin(kind) or kind
    if isinstance(struct, type) and issubclass(struct, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            _check(field.type, seen)
