"""The parts of a type, as msgspec sees them: what a declaration has to know of it, once, before the first value."""

from dataclasses import is_dataclass
from typing import Any, get_origin

from msgspec import Struct, inspect

_CONTAINERS = (
    inspect.DictType,
    inspect.ListType,
    inspect.SetType,
    inspect.ByteArrayType,
    inspect.MemoryViewType,
    inspect.TypedDictType,
)
"""Types whose values can be changed in place."""

_ANYTHING = (inspect.AnyType, inspect.CustomType)
"""Types of which nothing is known. `object` is a custom type to msgspec."""


def parts_of(kind: Any) -> list[inspect.Type]:
    """Return a type and all types inside it: of fields, items, keys, and the members of a union, each once."""
    parts: dict[int, inspect.Type] = {}
    waiting = [inspect.type_info(kind)]
    while waiting:
        part = waiting.pop()
        if id(part) not in parts:
            parts[id(part)] = part
            waiting += _inside(part)
    return list(parts.values())


def has_mutable_parts(kind: Any) -> bool:
    """Return whether a value of this type, or a part of it, can be changed in place."""
    return any(_is_mutable(part) for part in parts_of(kind))


def has_sets(kind: Any) -> bool:
    """Return whether a part of this type is a set, whose items have another order in each process."""
    return any(isinstance(part, inspect.SetType | inspect.FrozenSetType) for part in parts_of(kind))


class Unknown:
    """A type that has no values."""


def exact_type(kind: Any) -> Any:
    """Return the type whose own values certainly have the fields of `kind` and no others.

    msgspec ignores the fields that a type does not have when it reads a value. So a value of a subclass fits, with its other
    fields, also inside of another value.

    Returns:
        The class of `kind` if no other part can have such a value; None if not even `kind` can; else `Unknown`.
    """
    parts = parts_of(kind)
    lenient = [part for part in parts if _ignores_fields(part)]
    if not lenient:
        return None
    inside = {id(inner) for part in parts for inner in _inside(part)}
    top = parts[0]
    if lenient == [top] and id(top) not in inside and isinstance(top, inspect.StructType):
        return get_origin(top.cls) or top.cls
    return Unknown


def equal_if_exact(kind: Any) -> bool:
    """Return whether a value that equals one of this type certainly has the fields of `kind` and no others, in all its parts.

    A struct equals none of a subclass, unless its class has an ``__eq__`` of its own.
    """
    return not any(
        isinstance(part, (*_ANYTHING, inspect.DataclassType))
        or (isinstance(part, inspect.StructType) and (get_origin(part.cls) or part.cls).__eq__ is not Struct.__eq__)
        for part in parts_of(kind)
    )


def _ignores_fields(part: inspect.Type) -> bool:
    if isinstance(part, inspect.StructType):
        return not part.forbid_unknown_fields
    return isinstance(part, inspect.DataclassType | inspect.TypedDictType)


def reads_null_as_value(kind: Any) -> bool:
    """Return whether a part of this type may be a float, and reads ``null`` as another value, such as None.

    JSON has no NaN and no infinity. The encoder writes both as ``null``, which a plain float refuses when it is read.
    """
    return any(
        isinstance(part, _ANYTHING)
        or (
            isinstance(part, inspect.UnionType)
            and any(isinstance(one, inspect.FloatType) for one in part.types)
            and any(_allows_none(one) for one in part.types)
        )
        for part in parts_of(kind)
    )


def _allows_none(part: inspect.Type) -> bool:
    return isinstance(part, inspect.NoneType) or (isinstance(part, inspect.LiteralType) and None in part.values)


def _is_mutable(part: inspect.Type) -> bool:
    if isinstance(part, inspect.StructType):
        cls: Any = get_origin(part.cls) or part.cls
        return not cls.__struct_config__.frozen
    if isinstance(part, inspect.DataclassType):
        cls = get_origin(part.cls) or part.cls
        # msgspec has classes of attrs here, too: nothing tells in a simple way whether they are frozen.
        return not (is_dataclass(cls) and cls.__dataclass_params__.frozen)  # type: ignore[attr-defined]
    return isinstance(part, _CONTAINERS + _ANYTHING)


def _inside(part: inspect.Type) -> list[inspect.Type]:
    """Return the types directly inside a type. msgspec's descriptions are structs, whose fields lead to them."""
    found: list[inspect.Type] = []
    for name in part.__struct_fields__:
        value = getattr(part, name)
        for one in value if isinstance(value, tuple) else (value,):
            inner = one.type if isinstance(one, inspect.Field) else one
            if isinstance(inner, inspect.Type):
                found.append(inner)
    return found
