"""The fields that a JSON Schema describes: the schemas of the values at a path, and the fields that each value has.

The schemas are those of `runtime.wire.schemas`, or others of the same vocabulary. A schema is read as the description of a
writer: an object with `properties` has no other fields, unless `additionalProperties` or `patternProperties` allows them. An
object without `properties` has any field. Keywords that this module does not know limit nothing, so a result may describe
more values than the schema does, and never fewer.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, Final, Literal, cast

import msgspec

from runtime.wire.json_pointers import resolve
from runtime.wire.schemas import Schema

__all__ = ["UNKNOWN", "Unknown", "at_path", "field_names", "required_fields"]


class Unknown(enum.Enum):
    """The type of `UNKNOWN`."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN
"""The result for a place where any value may be."""

_MAX_ALTERNATIVES = 1_000
"""A schema with more combinations of alternatives is taken for one of any value."""

_TYPES: dict[type, str] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}

_Node = Schema | bool
"""A schema; True is that of any value, and False is that of none."""


def at_path(
    schema: Schema, path: Sequence[str | int], *, through_arrays: bool = False
) -> list[Schema] | Literal[Unknown.UNKNOWN]:
    """Return the schemas of the values that may be at a path.

    Args:
        schema: The schema of the whole value, with its `$defs`.
        path: Names of fields, and positions of elements of arrays, from 0. An empty path is that of the whole value.
        through_arrays: Replace each array on the path, and at its end, by its elements, as event patterns do. Otherwise, and
            only then, a position leads into an array.

    Returns:
        Alternatives: a value fits one of them. Each has exactly one `type`, and neither `$ref`, `anyOf`, `oneOf` nor `allOf`.
        The list is empty if no value has the path. The result is `UNKNOWN` if any value may be there.
    """
    nodes: list[_Node] = [schema]
    for name in path:
        found = _alternatives(schema, nodes, through_arrays)
        if found is UNKNOWN:
            return UNKNOWN
        nodes = [inner for each in found for inner in _inner(each, name)]
    return _alternatives(schema, nodes, through_arrays)


def required_fields(schema: Schema, path: Sequence[str | int] = (), *, through_arrays: bool = False) -> frozenset[str]:
    """Return the names of the fields that each value at a path has.

    The set is empty if a value there may be something else than an object. The arguments are those of `at_path`.
    """
    found = at_path(schema, path, through_arrays=through_arrays)
    if found is UNKNOWN or not found:
        return frozenset()
    required = [each.get("required", ()) if each["type"] == "object" else () for each in found]
    return frozenset(required[0]).intersection(*required[1:])


def field_names(schema: Schema, path: Sequence[str | int] = (), *, through_arrays: bool = False) -> frozenset[str]:
    """Return the names that the objects at a path give to their fields, for suggestions.

    The arguments are those of `at_path`. Fields that are allowed without a name of their own are not among them.
    """
    found = at_path(schema, path, through_arrays=through_arrays)
    return frozenset() if found is UNKNOWN else frozenset(name for each in found for name in each.get("properties", ()))


def _alternatives(
    root: Schema, nodes: Iterable[_Node], through_arrays: bool
) -> list[Schema] | Literal[Unknown.UNKNOWN]:
    found: list[Schema] = []
    seen: set[bytes] = set()
    waiting = [*nodes]
    while waiting:
        for each in _flat(root, waiting.pop(0), frozenset()):
            if "type" not in each:
                return UNKNOWN
            if not through_arrays or each["type"] != "array":
                found.append(each)
                continue
            for element in _elements(each):
                known = msgspec.json.encode(element)
                if known not in seen:  # the elements of a recursive type are described by the schema itself
                    seen.add(known)
                    waiting.append(element)
        if len(found) + len(seen) > _MAX_ALTERNATIVES:
            return UNKNOWN
    return found


def _inner(schema: Schema, name: str | int) -> Iterator[_Node]:
    """Yield the schemas of a field of an object, or of an element of an array."""
    if isinstance(name, int):
        if schema["type"] == "array" and name < schema.get("maxItems", name + 1):
            elements = [*_elements(schema)]
            listed = len(schema.get("prefixItems", ()))
            yield from elements[name : name + 1] if name < listed else elements[listed:]
    elif schema["type"] == "object":
        yield from _field(schema, name)


def _field(schema: Schema, name: str) -> Iterator[_Node]:
    names = schema.get("propertyNames")
    if isinstance(names, dict) and name not in cast("Schema", names).get("enum", (name,)):
        return
    if name in (properties := schema.get("properties", {})):
        yield properties[name]
    elif "patternProperties" in schema:
        yield True
    elif "additionalProperties" in schema:
        yield schema["additionalProperties"]
    elif "properties" not in schema:
        yield True


def _elements(schema: Schema) -> Iterator[_Node]:
    """Yield the schemas of the elements of an array: those of the first ones, and then that of all others."""
    yield from schema.get("prefixItems", ())
    if "items" in schema:
        yield schema["items"]
    elif "prefixItems" not in schema:
        yield True


def _flat(root: Schema, node: _Node, within: frozenset[str]) -> list[Schema]:
    """Return the alternatives of a schema, each with one type, or without one if it may be of any.

    Args:
        root: The schema with the definitions.
        node: The schema.
        within: The references that lead to it from a schema of the same value.
    """
    if isinstance(node, bool):
        return [{}] if node else []
    parts = [[*_by_type({key: value for key, value in node.items() if key not in _COMBINING})]]
    parts += [_flat(root, each, within) for each in node.get("allOf", ())]
    unions = [node[keyword] for keyword in ("anyOf", "oneOf") if keyword in node]
    parts += [[flat for each in union for flat in _flat(root, each, within)] for union in unions]
    reference = node.get("$ref")
    if reference is not None and reference not in within:
        parts.append(_flat(root, _target(root, reference), within | {reference}))
    found: list[Schema] = [{}]
    for part in parts:
        if len(found) * len(part) > _MAX_ALTERNATIVES:
            return [{}]
        found = [merged for a, b in product(found, part) if (merged := _both(a, b)) is not None]
    return found


_COMBINING = frozenset({"$ref", "$defs", "allOf", "anyOf", "oneOf"})


def _target(root: Schema, reference: str) -> _Node:
    """Return the schema that a reference names; that of any value if it is not in this document."""
    if not reference.startswith("#"):
        return True
    try:
        return cast("_Node", resolve(root, reference))
    except LookupError:
        return True


def _by_type(schema: Schema) -> Iterator[Schema]:
    """Yield a schema for each type that its values may have; the schema itself if it says nothing about types."""
    if "const" in schema:
        schema = {"enum": [schema["const"]], **schema}
    types = schema.get("type")
    if "enum" in schema:
        by_type: dict[str, list[Any]] = {}
        for value in schema["enum"]:
            by_type.setdefault(_TYPES[type(value)], []).append(value)
        for kind, values in by_type.items():
            if (narrow := _both_types(kind, types)) is not None:
                yield {**schema, "type": narrow, "enum": values}
    elif isinstance(types, list):
        yield from ({**schema, "type": kind} for kind in cast("list[str]", types))
    else:
        yield schema


def _both_types(kind: str, types: str | list[str] | None) -> str | None:
    """Return the type of a value that has the type `kind` and one of `types`; None if there is no such value."""
    allowed = [kind] if types is None else [types] if isinstance(types, str) else types
    if kind in allowed or (kind == "integer" and "number" in allowed):
        return kind
    return "integer" if kind == "number" and "integer" in allowed else None


def _both(a: Schema, b: Schema) -> Schema | None:
    """Return a schema that each value fits that fits both; None if the types or listed values exclude each other."""
    if not a or not b:
        return a or b
    found = {**b, **a}
    if "type" in a and "type" in b:
        kind = _both_types(a["type"], b["type"])
        if kind is None:
            return None
        found["type"] = kind
    if "enum" in a and "enum" in b:
        found["enum"] = [value for value in a["enum"] if any(_equal(value, other) for other in b["enum"])]
        if not found["enum"]:
            return None
    if "required" in a and "required" in b:
        found["required"] = [*dict.fromkeys([*a["required"], *b["required"]])]
    if "properties" in a and "properties" in b:
        names = dict.fromkeys([*a["properties"], *b["properties"]])
        found["properties"] = {name: _both_fields(a, b, name) for name in names}
    for keyword in ("items", "additionalProperties"):
        if keyword in a and keyword in b:
            found[keyword] = {"allOf": [a[keyword], b[keyword]]}
    return found


def _equal(a: object, b: object) -> bool:
    return a == b and isinstance(a, bool) is isinstance(b, bool)


def _both_fields(a: Schema, b: Schema, name: str) -> _Node:
    """Return the schema of a field that two schemas of one object describe, or one of them."""
    described = [
        each["properties"].get(name, each.get("additionalProperties"))
        for each in (a, b)
        if name in each["properties"] or "patternProperties" not in each
    ]
    given: list[_Node] = [each for each in described if each is not None]
    return given[0] if len(given) == 1 else {"allOf": given}
