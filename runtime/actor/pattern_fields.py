"""The check that an event's type has the fields that a pattern names."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import NamedTuple

from msgspec import inspect

from runtime.errors import DeclarationError

__all__ = ["check_path"]


def check_path(event: type, path: str, label: str) -> None:
    """Check that events of a type can have a field.

    A dictionary, or a type whose form on the wire is unknown, can have any field.

    Args:
        event: The type of the event.
        path: The names of the field on the wire, joined by dots.
        label: The first part of the error text.

    Raises:
        DeclarationError: The type has no such field. The text suggests the nearest name on the wire.
    """
    missing = _missing(inspect.type_info(event), path, "")
    if missing is None:
        return
    hint = _suggestion(missing)
    raise DeclarationError(
        f"{label}: {event.__name__} has no field {missing.parent + missing.name!r} on the wire"
        + (f"; did you mean {missing.parent + hint!r}?" if hint else "")
    )


class _Missing(NamedTuple):
    """A name that a type does not have."""

    parent: str
    """The names before it, each with a dot behind it."""
    name: str
    known: dict[str, str]
    """The names of the type on the wire, by their names in Python."""


def _missing(kind: inspect.Type, path: str, parent: str) -> _Missing | None:
    """Return the first name of a path that `kind` does not have, or None if the path exists."""
    known: dict[str, str] = {}
    deepest: _Missing | None = None
    for part in _objects(kind):
        if not isinstance(part, _Object):
            return None
        for field in part.fields:
            name = field.encode_name
            known[field.name] = name
            if path == name:
                return None
            if path.startswith(f"{name}."):
                deepest = _missing(field.type, path[len(name) + 1 :], f"{parent}{name}.")
                if deepest is None:
                    return None
        if isinstance(part, inspect.StructType) and part.tag_field is not None:
            known[part.tag_field] = part.tag_field
            if path == part.tag_field:
                return None
    return deepest or _Missing(parent, path.partition(".")[0], known)


_Object = inspect.StructType | inspect.TypedDictType | inspect.DataclassType
"""The types whose fields are known."""
_Open = inspect.DictType | inspect.FrozenDictType | inspect.AnyType | inspect.RawType | inspect.CustomType
"""The types that can have any field."""


def _objects(kind: inspect.Type) -> Iterator[inspect.Type]:
    """Yield the types of the objects that a value may be or, if it may be an array, that its elements may be."""
    if isinstance(kind, inspect.UnionType):
        inner: tuple[inspect.Type, ...] = kind.types
    elif isinstance(kind, inspect.CollectionType):
        inner = (kind.item_type,)
    elif isinstance(kind, inspect.TupleType):
        inner = kind.item_types
    elif isinstance(kind, inspect.NamedTupleType) or (isinstance(kind, inspect.StructType) and kind.array_like):
        inner = tuple(field.type for field in kind.fields)
    elif isinstance(kind, _Object | _Open):
        yield kind
        return
    elif isinstance(kind, inspect.Metadata):
        inner = (kind.type,)
    else:
        return
    for part in inner:
        yield from _objects(part)


def _suggestion(missing: _Missing) -> str | None:
    name = missing.name
    if name in missing.known:
        return missing.known[name]
    near = difflib.get_close_matches(name, [*missing.known.values(), *missing.known], n=1)
    return missing.known.get(near[0], near[0]) if near else None
