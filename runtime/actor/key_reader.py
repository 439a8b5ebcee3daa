"""How the key of a message is read: the path of a field, and the text of the value there.

A key is a text. So each value of a field that may have a key has one text, and unlike values have unlike texts: that is why
a float, a Decimal or a datetime is refused. A UUID may be written in several ways on the wire, and has one text here.
"""

from collections.abc import Callable
from datetime import date
from enum import Enum
from operator import attrgetter
from types import UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, NewType, Union, get_args, get_origin
from uuid import UUID

import msgspec

from runtime.errors import CodecError, DeclarationError
from runtime.wire.codec import name_of, undefined_type


class _KeyType(NamedTuple):
    """What a field with a key may hold."""

    label: str
    """For error texts: ``a UUID``."""
    text: Callable[[Any], str | None]
    """Returns the text of a value; None if it is no key."""


def path_reader(root: type, path: str, label: str) -> Callable[[Any], str]:
    """Return a function that reads the key of a message.

    Args:
        root: The type of the message.
        path: The path of the field that has the key: attribute names with dots between them.
        label: The name of the declaration in error texts.

    Returns:
        A function from a message to its key, which is a text: an integer in decimal digits, a UUID in lower case with
        dashes, a date as in ``2026-11-28``, and of an enum the value. The function raises `CodecError` if the message has
        no value there, because an optional part of the path is absent, or the value is of another type.

    Raises:
        DeclarationError: The path does not exist, or its values are no keys.
        NameError: A struct on the path has a field whose type is not defined yet.
    """
    names = path.split(".")
    kind = _kind_at(root, path, label)
    found = _key_type(kind)
    if found is None:
        raise DeclarationError(
            f"{label}: key {path!r} must be a str, int, UUID, date, or an enum of texts or integers, not {kind!r}"
        )
    if len(names) == 1 and found is _TEXT:
        return attrgetter(path)
    text = found.text

    def read(message: Any) -> str:
        value = message
        for name in names:
            value = getattr(value, name, None)
        key = text(value)
        if key is None:
            raise CodecError(f"{type(message).__name__} has no key: {path!r} is not {found.label}")
        return key

    return read


def key_reader(cls: type[msgspec.Struct], path: str) -> Callable[[Any], str]:
    """Return the `path_reader` of a class that is being created.

    The types of its fields cannot be known yet if one of them is the class itself, or a class that the module defines
    later. The path is then checked when the key is first read. The actor that handles the message checks it at import.

    Raises:
        DeclarationError: As `path_reader` does. The function that is returned raises it, too.
    """
    label = cls.__name__
    first = path.partition(".")[0]
    if first not in cls.__struct_fields__:
        raise DeclarationError(f"{label}: key {path!r}: {label} has no field {first!r}")
    try:
        return path_reader(cls, path, label)
    except NameError:
        found: list[Callable[[Any], str]] = []

    def read(message: Any) -> str:
        if not found:
            try:
                found.append(path_reader(cls, path, label))
            except NameError as error:
                raise undefined_type(label, error) from None
        return found[0](message)

    return read


def key_kind(root: type, path: str) -> str:
    """Return the kind of the keys at a path: ``a string``, ``an integer``, ``a UUID``, ``a date``, or ``a Color`` of an enum.

    Raises:
        DeclarationError: The path does not exist.
    """
    found = _key_type(_kind_at(root, path, name_of(root)))
    return found.label if found is not None else ""


def _kind_at(root: type, path: str, label: str) -> Any:
    """Return the type of the field at a path; Any behind a part that is no struct."""
    kind: Any = root
    for name in path.split("."):
        struct = _struct_in(kind)
        if struct is None:
            kind = Any
            continue
        fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
        if name not in fields:
            raise DeclarationError(f"{label}: key {path!r}: {name_of(struct)} has no field {name!r}")
        kind = fields[name]
    return kind


def _key_type(kind: Any) -> _KeyType | None:
    """Return what a field of a type may hold as a key; None if its values are no keys."""
    kind = _bare(kind)
    if get_origin(kind) is Literal:
        types = {type(value) for value in get_args(kind)}
        return _TYPES.get(types.pop()) if len(types) == 1 else None
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum_type(kind)
    return _TYPES.get(kind)


def _bare(kind: Any) -> Any:
    """Return a type without its names and the constraints of msgspec."""
    while True:
        if isinstance(kind, NewType):
            kind = kind.__supertype__
        elif get_origin(kind) is Annotated:
            kind = kind.__origin__
        elif hasattr(kind, "__value__"):  # ``type Name = …`` of Python 3.12
            kind = kind.__value__
        else:
            return kind


def _struct_in(kind: Any) -> Any:
    """Return the struct that a type is, or the only one in a union; None if there is none. It may have type arguments."""
    kind = _bare(kind)
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    structs = [part for part in map(_bare, parts) if _is_struct(get_origin(part) or part)]
    return structs[0] if len(structs) == 1 else None


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _enum_type(kind: type[Enum]) -> _KeyType | None:
    """Return what a field of an enum may hold: its members, if their values are all texts or all integers."""
    types = {type(member.value) for member in kind}
    if types not in ({str}, {int}):
        return None
    return _KeyType(f"a {kind.__name__}", lambda value: str(value.value) if isinstance(value, kind) else None)


def _plain(value: Any) -> str | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool | Enum) else None


def _any(value: Any) -> str | None:
    kind = _key_type(type(value))
    return _plain(value) if kind is None else kind.text(value)


_TEXT: Final = _KeyType("a string", _plain)
_TYPES: Final = {
    str: _TEXT,
    int: _KeyType("an integer", _plain),
    UUID: _KeyType("a UUID", lambda value: str(value) if isinstance(value, UUID) else None),
    date: _KeyType("a date", lambda value: value.isoformat() if type(value) is date else None),
    Any: _KeyType("a string, an integer, a UUID, a date or a member of an enum", _any),
}
